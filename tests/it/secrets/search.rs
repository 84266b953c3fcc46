//! Looks for many secrets at once, as they are and as base64, hexadecimal or a printed list of bytes would have them.

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter ones occur by chance in what was made from them.
const LONG_ENOUGH: usize = 8;

/// Secrets by name.
#[derive(Default)]
pub(super) struct Planted(Vec<(String, Vec<u8>)>);

impl Planted {
    pub(super) fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        assert!(secret.len() >= LONG_ENOUGH, "{name} is too short to be looked for");
        self.0.push((name.to_owned(), secret.to_vec()));
    }

    /// Those that are text.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(_, secret)| std::str::from_utf8(secret).ok())
    }

    /// What is found below a folder: the secret's name and form, and where.
    pub(super) fn found_below(&self, folder: &Path) -> Vec<String> {
        let forms: Vec<(String, Vec<u8>)> = self
            .0
            .iter()
            .flat_map(|(name, secret)| {
                forms(secret).into_iter().map(move |(form, text)| (format!("{name} ({form})"), text))
            })
            .collect();
        // One look for all, because hardly ever is anything found.
        let every: Vec<&[u8]> = forms.iter().map(|(_, form)| form.as_slice()).collect();
        if files_with_any(folder, &every).is_empty() {
            return Vec::new();
        }
        let found = forms.iter().map(|(name, form)| (name, files_with_any(folder, &[form])));
        let found = found.filter(|(_, files)| !files.is_empty());
        found.map(|(name, files)| format!("{name} in {files:?}")).collect()
    }
}

/// Files below a folder that contain one of some strings; `grep`, because a search in an unoptimised test takes minutes.
pub(super) fn files_with_any(folder: &Path, strings: &[&[u8]]) -> Vec<PathBuf> {
    let patterns = tempfile::NamedTempFile::new().unwrap();
    // A line is a pattern: what holds a line break is looked for in parts, which finds it all the more easily.
    let lines = strings.iter().flat_map(|string| string.split(|byte| *byte == b'\n'));
    let lines: Vec<&[u8]> = lines.filter(|line| line.len() >= LONG_ENOUGH).collect();
    std::fs::write(patterns.path(), lines.join(&b'\n')).unwrap();
    let found = Command::new("grep")
        .args(["--recursive", "--text", "--fixed-strings", "--files-with-matches", "--file"])
        .args([patterns.path(), folder])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = |upper: bool| {
        let byte = |byte: &u8| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        secret.iter().map(byte).collect::<String>().into_bytes()
    };
    let list = format!("{secret:?}");
    let list = list.trim_matches(['[', ']']).as_bytes().to_vec();
    let mut forms = vec![("as it is", secret.to_vec()), ("a list of bytes", list)];
    forms.extend([("hexadecimal", hex(false)), ("hexadecimal", hex(true))]);
    // Wherever in a longer text it begins.
    for skipped in 0..3 {
        let whole = (secret.len() - skipped) / 3 * 3;
        let part = &secret[skipped..skipped + whole];
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            forms.push(("base64", engine.encode(part).into_bytes()));
        }
    }
    forms.retain(|(_, form)| form.len() >= LONG_ENOUGH);
    forms
}

#[test]
fn a_secret_is_found_in_every_form_and_another_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut planted = Planted::default();
    planted.add("the secret", "correct horse");
    let texts = [
        "so correct horses",
        "{\"correct hors\":1}",
        "99, 111, 114, 114, 101, 99, 116, 32, 104, 111, 114, 115, 101",
    ];
    let encoded = ["x", "xy", "xyz"].map(|before| STANDARD_NO_PAD.encode(format!("{before}correct horse!")));
    for (n, text) in texts.into_iter().map(str::to_owned).chain(encoded).enumerate() {
        std::fs::write(folder.path().join("file"), &text).unwrap();
        assert_eq!(planted.found_below(folder.path()).is_empty(), n == 1, "{text}");
    }
}
