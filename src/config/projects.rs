//! `CONNECTOR_PROJECTS`: a TOML file of projects. Read and checked here, all problems at once, none of them with what a
//! secret holds; applied by `flows::developers`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use toml::{Table, Value};

use crate::domain::ids::Secret;
use crate::domain::project::ProjectId;
use crate::domain::project_wishes::Declared;
use crate::domain::project_wishes::Wishes;

/// What a project of the file may say.
const KEYS: [&str; 16] = [
    "id",
    "name",
    "secret_file",
    "secret_key_file",
    "grace_seconds",
    "bot_token_file",
    "webhook_url",
    "webhook_expired",
    "is_active",
    "active",
    "public_access",
    "req_phone",
    "match_code",
    "allowed_origins",
    "client_timestamps",
    "return_url",
];

/// Reads the file.
///
/// # Errors
/// Everything that is wrong with it, a line each, with the file and the project.
pub fn read_projects(path: &Path, webhook_allow: &[IpNet]) -> Result<Vec<Declared>, Vec<String>> {
    let file = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| vec![format!("{file} cannot be read: {error}")])?;
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        // The library's own text repeats the line, which may hold a secret.
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map(|before| before.matches('\n').count() + 1);
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        vec![format!("{file} is not TOML{line}: {}", error.message())]
    })?;
    let mut problems = Vec::new();
    for key in table.keys().filter(|key| *key != "project") {
        problems.push(format!("{file}: unknown key `{key}`: the file holds [[project]] only"));
    }
    let projects = match table.get("project") {
        None => &[][..],
        Some(Value::Array(projects)) => projects.as_slice(),
        Some(_) => {
            problems.push(format!("{file}: write [[project]] in double brackets"));
            &[][..]
        }
    };
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let (mut declared, mut ids) = (Vec::new(), BTreeSet::new());
    for (n, project) in projects.iter().enumerate() {
        let mut entry = Entry { table: project.as_table(), folder, problems: Vec::new() };
        let name = entry.table.and_then(|table| table.get("id")).and_then(Value::as_str);
        let name = name.map_or_else(|| format!("project {}", n + 1), str::to_owned);
        if let Some(one) = entry.read(webhook_allow) {
            if ids.insert(one.id.clone()) {
                declared.push(one);
            } else {
                entry.problems.push("the id is there twice".to_owned());
            }
        }
        problems.extend(entry.problems.iter().map(|problem| format!("{file}: {name}: {problem}")));
    }
    if problems.is_empty() { Ok(declared) } else { Err(problems) }
}

/// A project of the file while it is read.
struct Entry<'a> {
    table: Option<&'a Table>,
    folder: &'a Path,
    problems: Vec<String>,
}

impl<'a> Entry<'a> {
    /// The project, where there is no problem.
    fn read(&mut self, webhook_allow: &[IpNet]) -> Option<Declared> {
        let Some(table) = self.table else {
            self.problems.push("a project is a table".to_owned());
            return None;
        };
        for key in table.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            let hint = match key.as_str() {
                "secret" | "secret_key" | "bot_token" => {
                    ": secrets are in files of their own, as in `secret_file`"
                }
                _ => "",
            };
            self.problems.push(format!("unknown key `{key}`{hint}"));
        }
        let id = self.text("id").and_then(|id| {
            let id = ProjectId::parse(&id);
            if id.is_none() {
                self.problems.push("`id` is proj_ and 1 to 59 of A-Z a-z 0-9 _ -".to_owned());
            }
            id
        });
        for key in ["id", "name"].into_iter().filter(|key| !table.contains_key(*key)) {
            self.problems.push(format!("`{key}` is missing"));
        }
        let wishes = self.wishes();
        match wishes.checked(webhook_allow) {
            Ok(change) => id.filter(|_| self.problems.is_empty()).map(|id| Declared { id, change }),
            Err(bad) => {
                self.problems.extend(bad.into_iter().map(|wish| wish.to_string()));
                None
            }
        }
    }

    fn wishes(&mut self) -> Wishes {
        let secrets = [self.secret("secret_file"), self.secret("secret_key_file")];
        if self.has("secret_file") && self.has("secret_key_file") {
            self.problems.push("`secret_file` and `secret_key_file` are the same setting".to_owned());
        }
        Wishes {
            name: self.text("name"),
            is_active: self.flag("is_active"),
            active: self.flag("active"),
            public_access: self.flag("public_access"),
            req_phone: self.flag("req_phone"),
            match_code: self.flag("match_code"),
            allowed_origins: self.texts("allowed_origins"),
            client_timestamps: self.text("client_timestamps"),
            return_url: self.text("return_url"),
            webhook_url: self.text("webhook_url"),
            webhook_expired: self.flag("webhook_expired"),
            bot_token: self.clearable_secret("bot_token_file"),
            secret_key: secrets.into_iter().flatten().next(),
            grace_seconds: self.whole_number("grace_seconds"),
        }
    }

    fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// The value of a key, read by `read`.
    fn value<T>(&mut self, key: &str, is: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        let value = self.table?.get(key)?;
        let read = read(value);
        if read.is_none() {
            self.problems.push(format!("`{key}` is {is}"));
        }
        read
    }

    fn text(&mut self, key: &str) -> Option<String> {
        self.value(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.value(key, "true or false", Value::as_bool)
    }

    fn whole_number(&mut self, key: &str) -> Option<u64> {
        self.value(key, "a whole number", |value| {
            value.as_integer().and_then(|number| number.try_into().ok())
        })
    }

    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        self.value(key, "a list of texts", |value| {
            value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
        })
    }

    /// What is in the file that a key names; without white space at its end.
    fn secret(&mut self, key: &str) -> Option<Secret<String>> {
        let path: PathBuf = self.folder.join(self.text(key)?);
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(Secret::new(text.trim().to_owned())),
            Err(error) => {
                self.problems.push(format!("`{key}`: {} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    /// The same; no path at all clears it, and an empty file is a mistake.
    fn clearable_secret(&mut self, key: &str) -> Option<Secret<String>> {
        if self.table?.get(key)?.as_str() == Some("") {
            return Some(Secret::new(String::new()));
        }
        let secret = self.secret(key)?;
        if secret.reveal().is_empty() {
            self.problems.push(format!("`{key}`: the file is empty"));
        }
        Some(secret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "planted-planted-planted-planted-planted";

    fn read(text: &str) -> Result<Vec<Declared>, Vec<String>> {
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        std::fs::write(folder.path().join("weak"), "planted").unwrap();
        std::fs::write(folder.path().join("empty"), "\n").unwrap();
        std::fs::write(folder.path().join("bot"), "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw_-\n")
            .unwrap();
        let path = folder.path().join("projects.toml");
        std::fs::write(&path, text).unwrap();
        read_projects(&path, &[])
    }

    #[test]
    fn a_file_says_what_the_api_can() {
        let declared = read(
            "[[project]]\nid = \"proj_a\"\nname = \" Shop \"\nsecret_file = \"secret\"\nbot_token_file = \"bot\"\n\
             webhook_url = \"https://shop.example/hook\"\nwebhook_expired = true\nis_active = false\n\
             allowed_origins = [\"https://shop.example\"]\nclient_timestamps = \"unix_ms\"\ngrace_seconds = 60\n\
             [[project]]\nid = \"proj_b\"\nname = \"Bare\"\n",
        );
        let declared = declared.unwrap();
        let [shop, bare] = &declared[..] else { panic!("{declared:?}") };
        assert_eq!((shop.id.as_str(), shop.change.name()), ("proj_a", Some("Shop")));
        let (secret, grace) = shop.change.secret_key().unwrap();
        assert_eq!((secret.reveal().as_str(), grace.as_secs()), (SECRET, 60));
        assert!(shop.change.bot_token().unwrap().reveal().starts_with("110201543:"));
        assert!(bare.change.bot_token().is_none() && bare.change.secret_key().is_none());
        assert!(!format!("{declared:?}").contains("planted"));
        assert!(read("").unwrap().is_empty());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_and_no_secret() {
        let problems = read(
            "colour = 1\n[[project]]\nid = \"demo\"\nname = 7\nsecret = \"planted\"\nbot_token = \"planted\"\n\
             [[project]]\nid = \"proj_a\"\nname = \"A\"\nsecret_file = \"weak\"\nbot_token_file = \"empty\"\n\
             [[project]]\nid = \"proj_b\"\nname = \"B\"\nsecret_file = \"nothere\"\nis_active = \"planted\"\nwebhook_url = \"ftp://x\"\n\
             [[project]]\nid = \"proj_c\"\nname = \"C\"\n[[project]]\nid = \"proj_c\"\nname = \"C\"\nactive = true\nis_active = false\n\
             [[project]]\nid = \"proj_c\"\nname = \"C\"\n[[project]]\n",
        );
        let problems = problems.unwrap_err();
        let all = problems.join("\n");
        for expected in [
            "unknown key `colour`",
            "demo: unknown key `secret`",
            "demo: unknown key `bot_token`",
            "demo: `id` is proj_",
            "demo: `name` is a text",
            "proj_a: `secret_key` has 32 to 256",
            "proj_a: `bot_token_file`: the file is empty",
            "proj_b: `secret_file`: ",
            "proj_b: `is_active` is true or false",
            "proj_b: the webhook URL must begin with https://",
            "proj_c: `is_active` and `active`",
            "proj_c: the id is there twice",
            "project 7: `id` is missing",
        ] {
            assert!(all.contains(expected), "{expected}\n{all}");
        }
        assert!(problems.iter().all(|problem| problem.contains("projects.toml")), "{all}");
        assert!(!all.contains("planted"), "{all}");
        let broken = read("[[project]]\nid = \"proj_a\"\nbot_token = \"planted\n").unwrap_err().join("\n");
        assert!(broken.contains("line 3") && !broken.contains("planted"), "{broken}");
        assert!(read("[project]\nid = \"proj_a\"\n").unwrap_err()[0].contains("double brackets"));
    }
}
