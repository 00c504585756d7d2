//! Bytes that a stranger may send as a notification or as its signature, thrown at the code that reads them first. One
//! function a fuzz target (`fuzz/`, which builds this same file), and the same functions as plain tests over the targets'
//! seeds and over mutations of them. Each fails when the code panics, or believes what nobody with a key made.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::notify::{Notification, NotifyError, NotifyOpener};
use super::pay::Transaction;
use super::platform::{PlatformKeys, VerifyError};

const API_V3_KEY: &str = "abcdefghijklmnopqrstuvwxyzABCDEF";
const NONCE: &str = "123456789012";
/// From either crate that builds this file.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../origin/src/wechat/fixtures");

static OPENER: LazyLock<NotifyOpener> = LazyLock::new(|| NotifyOpener::new(API_V3_KEY).expect("32 bytes"));
static KEYS: LazyLock<PlatformKeys> =
    LazyLock::new(|| PlatformKeys::load(&format!("{SERIAL}={FIXTURES}/platform_public.pem")).expect("a key"));

/// A notification. The bytes are taken as a whole body, which nobody sealed; and where they start with a line
/// `event type|associated data`, the rest is taken as the content that WeChat sealed.
pub fn notification(bytes: &[u8]) {
    let _ = NotifyOpener::label(bytes);
    match OPENER.open(bytes) {
        Ok(Notification::Paid(_) | Notification::Refund(_)) => panic!("it was opened, and nobody sealed it"),
        Ok(Notification::Other(_)) | Err(_) => {}
    }
    let Some((event_type, associated_data, content)) = sealed_form(bytes) else { return };
    match (event_type, OPENER.open(&envelope(event_type, associated_data, content))) {
        ("TRANSACTION.SUCCESS", Ok(Notification::Paid(_))) => {}
        ("TRANSACTION.SUCCESS", Err(NotifyError::Malformed(_))) => {
            assert!(serde_json::from_slice::<Transaction>(content).is_err(), "a payment was not read");
        }
        ("REFUND.SUCCESS" | "REFUND.ABNORMAL" | "REFUND.CLOSED", read) => {
            assert!(matches!(read, Ok(Notification::Refund(_)) | Err(NotifyError::Malformed(_))), "{read:?}");
        }
        (_, Ok(Notification::Other(kind))) => assert_eq!(kind, event_type),
        (_, other) => panic!("{event_type:?} was read as {other:?}"),
    }
}

fn sealed_form(bytes: &[u8]) -> Option<(&str, &str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, content) = bytes.split_at(end);
    let (event_type, associated_data) = std::str::from_utf8(head).ok()?.split_once('|')?;
    Some((event_type, associated_data, &content[1..]))
}

/// As WeChat builds it.
fn envelope(event_type: &str, associated_data: &str, content: &[u8]) -> Vec<u8> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, API_V3_KEY.as_bytes()).expect("32 bytes"));
    let nonce = Nonce::try_assume_unique_for_key(NONCE.as_bytes()).expect("12 bytes");
    let mut text = content.to_vec();
    key.seal_in_place_append_tag(nonce, Aad::from(associated_data.as_bytes()), &mut text)
        .expect("it is short");
    let envelope = serde_json::json!({
        "id": "1", "event_type": event_type,
        "resource": {"algorithm": "AEAD_AES_256_GCM", "ciphertext": BASE64.encode(text), "nonce": NONCE,
                     "associated_data": associated_data},
    });
    envelope.to_string().into_bytes()
}

/// What WeChat once signed; made with OpenSSL.
const TIMESTAMP: &str = "1700000000";
const SIGNED_NONCE: &str = "nonce";
const SERIAL: &str = "PUB_KEY_ID_01";
const SIGNED_BODY: &[u8] = b"{\"a\":1}";
const SIGNATURE: &str = include_str!("fixtures/signature.txt");
const NAMES: [&str; 4] =
    ["wechatpay-timestamp", "wechatpay-nonce", "wechatpay-serial", "wechatpay-signature"];

/// A signature: four lines with its headers' values, an empty one for none, and the body behind them. Nothing verifies but
/// the one message that was signed.
pub fn signature_headers(bytes: &[u8]) {
    let parts: Vec<&[u8]> = bytes.splitn(5, |byte| *byte == b'\n').collect();
    let mut headers = HeaderMap::new();
    for (name, value) in NAMES.iter().zip(&parts) {
        match HeaderValue::from_bytes(value) {
            Ok(value) if !value.is_empty() => {
                headers.insert(HeaderName::from_static(name), value);
            }
            // The server in front lets no such header through.
            _ => {}
        }
    }
    let body = parts.get(4).copied().unwrap_or_default();
    let genuine = [TIMESTAMP, SIGNED_NONCE, SERIAL, SIGNATURE.trim()].map(str::as_bytes);
    let is_genuine = parts.get(..4) == Some(&genuine[..]) && body == SIGNED_BODY;
    for now in [1_700_000_000, 1_700_000_299, 1_699_999_701] {
        let read = KEYS.verify(&headers, body, now);
        assert_eq!(read.is_ok(), is_genuine, "{read:?}");
    }
    for now in [0, 1_700_000_300, u64::MAX] {
        let read = KEYS.verify(&headers, body, now);
        assert_eq!(matches!(read, Err(VerifyError::Skewed(_))), is_genuine, "{read:?}");
        assert!(read.is_err(), "it was signed at another time");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the fuzz target starts from.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/../fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
        let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut seeds: Vec<Vec<u8>> =
            files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
        seeds.sort();
        assert!(seeds.len() >= 5, "{folder} has {} seeds", seeds.len());
        seeds
    }

    /// Every seed, each of its bits turned, cut at each place, and with each byte doubled.
    fn mutations(seed: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let places = 0..seed.len();
        let bits = places.clone().flat_map(|at| (0..8).map(move |bit| (at, bit)));
        let turned = bits.map(|(at, bit)| {
            let mut other = seed.to_vec();
            other[at] ^= 1 << bit;
            other
        });
        let cut = places.clone().map(|at| seed[..at].to_vec());
        let doubled = places.map(|at| [&seed[..=at], &seed[at..]].concat());
        std::iter::once(seed.to_vec()).chain(turned).chain(cut).chain(doubled)
    }

    #[test]
    fn no_mutation_of_a_notification_is_believed() {
        seeds("notification").iter().flat_map(|seed| mutations(seed)).for_each(|bytes| notification(&bytes));
    }

    #[test]
    fn no_mutation_of_a_signature_is_believed() {
        let seeds = seeds("signature_headers");
        seeds.iter().flat_map(|seed| mutations(seed)).for_each(|bytes| signature_headers(&bytes));
    }

    #[test]
    fn the_seeds_reach_what_is_meant_to_be_reached() {
        let kinds: Vec<&str> =
            ["TRANSACTION.SUCCESS|", "REFUND.SUCCESS|", "REFUND.ABNORMAL|", "REFUND.CLOSED|"].into();
        let seeds_of_notifications = seeds("notification");
        for kind in kinds {
            let opened = seeds_of_notifications.iter().any(|seed| {
                let sealed = sealed_form(seed).filter(|_| seed.starts_with(kind.as_bytes()));
                sealed.is_some_and(|(event, data, content)| {
                    OPENER.open(&envelope(event, data, content)).is_ok()
                })
            });
            assert!(opened, "no seed is a good {kind}");
        }
        let genuine = [
            TIMESTAMP.as_bytes(),
            SIGNED_NONCE.as_bytes(),
            SERIAL.as_bytes(),
            SIGNATURE.trim().as_bytes(),
            SIGNED_BODY,
        ]
        .join(&b'\n');
        assert!(seeds("signature_headers").contains(&genuine));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn noise_is_never_believed(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            notification(&bytes);
            signature_headers(&bytes);
        }

        #[test]
        fn nor_is_noise_inside_a_seed(
            pick in any::<u16>(), at in any::<u16>(), noise in proptest::collection::vec(any::<u8>(), 0..32),
        ) {
            for (target, run) in
                [("notification", notification as fn(&[u8])), ("signature_headers", signature_headers)]
            {
                static SEEDS: LazyLock<[Vec<Vec<u8>>; 2]> =
                    LazyLock::new(|| [seeds("notification"), seeds("signature_headers")]);
                let seeds = &SEEDS[usize::from(target == "signature_headers")];
                let mut bytes = seeds[usize::from(pick) % seeds.len()].clone();
                let at = usize::from(at) % (bytes.len() + 1);
                let end = (at + noise.len()).min(bytes.len());
                bytes.splice(at..end, noise.clone());
                run(&bytes);
            }
        }
    }
}
