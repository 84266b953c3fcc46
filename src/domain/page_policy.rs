//! What pages of ours may do in a browser (Content Security Policy Level 3): run the scripts that are in them, call where
//! they come from, and nothing else; and nobody may put them into a page of their own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A page without scripts.
pub const PLAIN_PAGE: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";
/// What no page of ours needs (Permissions Policy).
pub const PERMISSIONS: &str = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), \
     publickey-credentials-get=(), serial=(), usb=()";

/// The policy of a page that holds its scripts: each by its digest, so that none that somebody manages to add runs.
pub fn scripted_page(html: &str) -> String {
    let scripts: Vec<String> = inline_scripts(html)
        .map(|script| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(script.as_bytes()))))
        .collect();
    format!(
        "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        scripts.join(" ")
    )
}

/// What is between `<script …>` and the next `</script`, where a browser ends it whatever is in it.
fn inline_scripts(html: &str) -> impl Iterator<Item = &str> {
    let mut rest = html;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once("<script")?;
        let (_, after) = after.split_once('>')?;
        let (script, after) = after.split_once("</script")?;
        rest = after;
        Some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_of_a_page_are_named_by_their_digests() {
        // The example of CSP Level 3, section 8.4.
        let page = "<p><script>doSomething();</script><script charset=x>a = '<script>'</script>";
        assert_eq!(inline_scripts(page).collect::<Vec<_>>(), ["doSomething();", "a = '<script>'"]);
        let policy = scripted_page(page);
        assert!(
            policy.contains("script-src 'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc=' 'sha256-"),
            "{policy}"
        );
    }
}
