//! What a delivery is signed with: the hex HMAC that Bondify's clients check, and Standard Webhooks, both keyed with the
//! UTF-8 bytes of the project's whole secret (contract, section 3: webhooks). Proofs are signed in `proof`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::DeliveryId;
use crate::domain::clock::Timestamp;
use crate::domain::project::Project;
use crate::domain::project::SigningSecret;

/// The headers of a delivery, names as they are written.
pub type Headers = Vec<(&'static str, String)>;

/// The headers for sending `body` at `now`. A secret that is retiring adds its Standard Webhooks signature; the hex one
/// has room for one only, which is the present secret's.
pub fn headers(project: &Project, id: &DeliveryId, event: &str, body: &str, now: Timestamp) -> Headers {
    let seconds = now.as_secs().to_string();
    let signed = format!("{id}.{seconds}.{body}");
    let standard = |secret: &SigningSecret| format!("v1,{}", STANDARD.encode(mac(secret, &signed)));
    let mut signatures = standard(&project.secret);
    if let Some(retiring) = project.retiring_secret(now) {
        signatures.push(' ');
        signatures.push_str(&standard(retiring));
    }
    let hex =
        mac(&project.secret, body).iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    vec![
        ("Content-Type", "application/json".to_owned()),
        ("X-Bondify-Signature", hex),
        ("X-Bondify-Event", event.to_owned()),
        ("X-Bondify-Delivery", id.to_string()),
        ("X-Bondify-Timestamp", seconds.clone()),
        ("webhook-id", id.to_string()),
        ("webhook-timestamp", seconds),
        ("webhook-signature", signatures),
    ]
}

fn mac(secret: &SigningSecret, text: &str) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "an HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("any length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}
