//! Deep links as an app understands them (<https://core.telegram.org/api/links>): of Telegram's own addresses, of the
//! `tg` scheme, and of the sandbox's own base address.

use url::Host;
use url::Url;

use crate::sandbox::world::Phone;

/// Telegram's own hosts.
const HOSTS: [&str; 3] = ["t.me", "telegram.me", "telegram.dog"];

/// Whom a link leads to, and what is to be said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) target: Target,
    /// For a bot: the parameter of its `/start`, perhaps empty.
    pub(super) start: Option<String>,
    pub(super) text: Option<String>,
}

/// Whom a link leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Username(String),
    Phone(Phone),
}

impl Link {
    /// Reads a link; `None` when it is none to a person or a bot. `own_host` is what this sandbox was called by.
    pub(super) fn parse(link: &str, own_host: Option<&str>) -> Option<Self> {
        let link = link.trim();
        // The slashes of `tg:` are optional, and people leave the scheme of web addresses out.
        let url = match link.strip_prefix("tg:") {
            Some(rest) => Url::parse(&format!("tg://{}", rest.trim_start_matches('/'))).ok()?,
            None if link.contains("://") => Url::parse(link).ok()?,
            None => Url::parse(&format!("https://{link}")).ok()?,
        };
        let asked =
            |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let target = match url.scheme() {
            "tg" if url.host_str() == Some("resolve") => match (asked("domain"), asked("phone")) {
                (Some(username), _) => username_target(&username)?,
                (None, Some(phone)) => Target::Phone(Phone::parse(&phone)?),
                (None, None) => return None,
            },
            "http" | "https" if is_base(&url, own_host) => {
                let path = url.path().trim_matches('/');
                match path.strip_prefix('+').or_else(|| path.strip_prefix("%2B")) {
                    Some(phone) => Target::Phone(Phone::parse(phone)?),
                    None => username_target(path)?,
                }
            }
            _ => return None,
        };
        Some(Self { target, start: asked("start"), text: asked("text") })
    }
}

fn username_target(name: &str) -> Option<Target> {
    let plausible = (1..=64).contains(&name.len())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
    plausible.then(|| Target::Username(name.to_owned()))
}

/// Whether links on this address are deep links: Telegram's, the sandbox's, or anything on this machine.
fn is_base(url: &Url, own_host: Option<&str>) -> bool {
    let local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || HOSTS.contains(&name),
        None => false,
    };
    let authority = url.authority();
    local || own_host.is_some_and(|own| own.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(username: &str, start: Option<&str>, text: Option<&str>) -> Link {
        let target = Target::Username(username.to_owned());
        Link { target, start: start.map(str::to_owned), text: text.map(str::to_owned) }
    }

    #[test]
    fn both_bases_lead_to_the_same_place() {
        for link in [
            "https://t.me/some_bot?start=abc-_1",
            "http://telegram.me/some_bot/?start=abc-_1",
            "t.me/some_bot?start=abc-_1",
            " tg://resolve?domain=some_bot&start=abc-_1 ",
            "tg:resolve?domain=some_bot&start=abc-_1",
            "tg:/resolve?domain=some_bot&start=abc-_1",
            "http://127.0.0.1:5001/some_bot?start=abc-_1",
            "http://localhost:5001/some_bot?start=abc-_1",
            "http://[::1]:5001/some_bot?start=abc-_1",
            "https://phone.example:8443/some_bot?start=abc-_1",
        ] {
            let read = Link::parse(link, Some("phone.example:8443"));
            assert_eq!(read, Some(to("some_bot", Some("abc-_1"), None)), "{link}");
        }
    }

    #[test]
    fn texts_and_numbers_are_decoded() {
        let link = Link::parse("https://t.me/alice_a?text=yes%20%26+no%0A%E2%9C%85", None);
        assert_eq!(link, Some(to("alice_a", None, Some("yes & no\n✅"))));
        let phone = Target::Phone(Phone::parse("+15550100001").unwrap());
        for link in [
            "https://t.me/+15550100001?text=a",
            "https://t.me/%2B15550100001?text=a",
            "tg://resolve?phone=15550100001&text=a",
        ] {
            let read = Link::parse(link, None).unwrap();
            assert_eq!((read.target, read.text.as_deref()), (phone.clone(), Some("a")), "{link}");
        }
    }

    #[test]
    fn nothing_else_is_a_deep_link() {
        for link in [
            "",
            "hello",
            "https://example.com/some_bot?start=x",
            "https://phone.example/some_bot",
            "https://t.me/",
            "https://t.me/+abcDEF",
            "https://t.me/c/123/4",
            "tg://resolve?start=x",
            "tg://join?invite=x",
            "ftp://t.me/some_bot",
            "javascript:alert(1)",
        ] {
            assert_eq!(Link::parse(link, Some("phone.example:8443")), None, "{link}");
        }
    }
}
