//! WeChat's public key out of the files that its merchant console hands out: `pub_key.pem`, a bare public key, or a platform
//! certificate. Promises a start that fails when a file is not what its serial says.

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use farmgate_shared::edge_auth::hex;
use rustls_pki_types::pem::{PemObject, SectionKind};
use spki::SubjectPublicKeyInfoRef;
use spki::der::asn1::UintRef;
use spki::der::{AnyRef, Decode, Reader, SliceReader, Tag, TagNumber};

const RSA: &str = "1.2.840.113549.1.1.1";

/// The RSA key of a PEM file in the PKCS#1 form that ring takes.
///
/// # Errors
/// When the file cannot be read, holds neither a public key nor a certificate, no RSA key, or a certificate with another
/// serial than `serial`.
pub(super) fn read(file: &Path, serial: &str) -> anyhow::Result<Vec<u8>> {
    let (kind, der) = <(SectionKind, Vec<u8>)>::from_pem_file(file).context("no PEM")?;
    match kind {
        SectionKind::PublicKey => {
            rsa_key(&SubjectPublicKeyInfoRef::from_der(&der).map_err(|error| anyhow!("{error}"))?)
        }
        SectionKind::Certificate => {
            let certificate = Certificate::read(&der).map_err(|error| anyhow!("no certificate: {error}"))?;
            let own = certificate.serial.as_str();
            let wanted = serial.trim_start_matches('0');
            ensure!(
                own.trim_start_matches('0').eq_ignore_ascii_case(wanted),
                "the certificate's serial is {own}, not {serial}"
            );
            rsa_key(&certificate.key)
        }
        other => bail!("neither a public key nor a certificate but {other:?}"),
    }
}

fn rsa_key(info: &SubjectPublicKeyInfoRef<'_>) -> anyhow::Result<Vec<u8>> {
    ensure!(info.algorithm.oid.to_string() == RSA, "not an RSA key");
    Ok(info.subject_public_key.raw_bytes().to_vec())
}

/// What is needed of an X.509 certificate. Nothing is asked of its issuer: the operator vouches for the file, as for a bare
/// key.
struct Certificate<'a> {
    /// Hex, upper case.
    serial: String,
    key: SubjectPublicKeyInfoRef<'a>,
}

impl<'a> Certificate<'a> {
    fn read(der: &'a [u8]) -> Result<Certificate<'a>, spki::der::Error> {
        let whole = AnyRef::from_der(der)?;
        let mut parts = SliceReader::new(whole.value())?;
        let to_be_signed: AnyRef<'a> = parts.decode()?;
        let mut fields = SliceReader::new(to_be_signed.value())?;
        let version = Tag::ContextSpecific { constructed: true, number: TagNumber::N0 };
        if fields.peek_tag()? == version {
            fields.decode::<AnyRef<'a>>()?;
        }
        let serial: UintRef<'a> = fields.decode()?;
        for _before_the_key in ["signature", "issuer", "validity", "subject"] {
            fields.decode::<AnyRef<'a>>()?;
        }
        Ok(Certificate { serial: hex(serial.as_bytes()).to_uppercase(), key: fields.decode()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIAL: &str = "5157F09EFDC096DE15EBE81A47057A7232F1B8E1";

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wechat/fixtures").join(name)
    }

    #[test]
    fn a_certificate_and_its_bare_key_are_the_same_key() {
        let bare = read(&fixture("platform_public.pem"), "PUB_KEY_ID_01").unwrap();
        for serial in [SERIAL.to_owned(), SERIAL.to_lowercase(), format!("00{SERIAL}")] {
            assert_eq!(read(&fixture("platform_certificate.pem"), &serial).unwrap(), bare, "{serial}");
        }
    }

    #[test]
    fn a_file_that_is_not_what_its_serial_says_is_refused() {
        let refused = |file: &str, serial: &str| read(&fixture(file), serial).unwrap_err().to_string();
        let other = refused("platform_certificate.pem", "PUB_KEY_ID_01");
        assert!(other.contains(SERIAL) && other.contains("PUB_KEY_ID_01"), "{other}");
        assert!(refused("not_rsa_public.pem", "PUB_KEY_ID_01").contains("not an RSA key"));
        assert!(refused("nowhere.pem", "PUB_KEY_ID_01").contains("no PEM"));
        for damaged in [&b""[..], b"\x30", b"\x30\x03\x02\x01\x01", &[0x30; 64]] {
            assert!(Certificate::read(damaged).is_err(), "{damaged:?}");
        }
    }
}
