//! The daily trade bill. WeChat signs where it is and what its hash is; the file itself comes unsigned, perhaps from another
//! host, and is believed for its hash alone. Promises its caller the whole bill of the day, or none and the reason.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use http::Method;
use reqwest::Url;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use serde::Deserialize;

use farmgate_shared::edge_auth::hex;

use super::{PayClient, PayError, Refusal};

/// Bytes of a bill as it comes, and unpacked: some hundred thousand trades.
const MOST_PACKED: usize = 16 * 1024 * 1024;
const MOST_UNPACKED: usize = 128 * 1024 * 1024;
/// A large file takes longer than a call.
const DOWNLOAD_WITHIN: Duration = Duration::from_secs(60);

/// A whole bill.
pub struct TradeBill {
    /// As WeChat writes it, unpacked.
    pub csv: Vec<u8>,
    /// SHA-1 in hexadecimal, as WeChat signed it.
    pub hash: String,
}

/// Shows no trades.
impl fmt::Debug for TradeBill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TradeBill({} bytes, {})", self.csv.len(), self.hash)
    }
}

/// Why there is no bill.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    #[error(transparent)]
    Pay(#[from] PayError),
    #[error("WeChat is still writing the bill of this day")]
    BeingWritten,
    /// It is not shown: whoever has it may have the bill.
    #[error("the bill's address is none")]
    Address,
    #[error("the bill could not be fetched")]
    Fetch(#[source] reqwest::Error),
    #[error("the bill's server refused: {0}")]
    Refused(http::StatusCode),
    #[error("the bill has more than {0} bytes")]
    TooLarge(usize),
    #[error("the bill's hash is a {0}, not a SHA-1")]
    HashType(String),
    #[error("the bill does not unpack")]
    Packed(#[source] std::io::Error),
    #[error("the bill's hash is {found}, WeChat said {told}")]
    Hash { told: String, found: String },
}

#[derive(Deserialize)]
struct Told {
    hash_type: String,
    hash_value: String,
    download_url: String,
}

impl PayClient {
    /// The bill of a day, `YYYY-MM-DD` in Shanghai, with all its sales and refunds; `None` when the day had none. `now` is
    /// in seconds since 1970.
    ///
    /// # Errors
    /// [`BillError`].
    pub async fn trade_bill(&self, bill_date: &str, now: u64) -> Result<Option<TradeBill>, BillError> {
        let path = format!("/v3/bill/tradebill?bill_date={bill_date}&bill_type=ALL&tar_type=GZIP");
        let told = match self.call(Method::GET, &path, "", now).await {
            Ok(body) => super::parse::<Told>(&body)?,
            Err(PayError::Refused { code: Refusal::NoStatementExist, .. }) => return Ok(None),
            Err(PayError::Refused { code: Refusal::StatementCreating, .. }) => {
                return Err(BillError::BeingWritten);
            }
            Err(error) => return Err(error.into()),
        };
        if !told.hash_type.eq_ignore_ascii_case("SHA1") {
            return Err(BillError::HashType(told.hash_type));
        }
        let packed = self.download(&told.download_url, now).await?;
        let csv = tokio::task::spawn_blocking(move || unpack(&packed, MOST_UNPACKED))
            .await
            .map_err(|error| BillError::Packed(std::io::Error::other(error)))??;
        let found = hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, &csv).as_ref());
        if !found.eq_ignore_ascii_case(&told.hash_value) {
            return Err(BillError::Hash { told: told.hash_value, found });
        }
        Ok(Some(TradeBill { csv, hash: found }))
    }

    async fn download(&self, address: &str, now: u64) -> Result<Vec<u8>, BillError> {
        let url = Url::parse(address).map_err(|_| BillError::Address)?;
        let fetch = |error: reqwest::Error| BillError::Fetch(error.without_url());
        // What is signed is what is sent: the path and query as the client writes them.
        let path = path_and_query(&url);
        let authorization = self.merchant.authorization("GET", &path, "", now).map_err(PayError::Sign)?;
        let mut response = self
            .http
            .get(url)
            .timeout(DOWNLOAD_WITHIN)
            .header("accept", "*/*")
            .header("authorization", authorization)
            .header("wechatpay-serial", self.platform.preferred())
            .send()
            .await
            .map_err(fetch)?;
        if !response.status().is_success() {
            return Err(BillError::Refused(response.status()));
        }
        let mut packed = Vec::new();
        while let Some(part) = response.chunk().await.map_err(fetch)? {
            if packed.len() + part.len() > MOST_PACKED {
                return Err(BillError::TooLarge(MOST_PACKED));
            }
            packed.extend_from_slice(&part);
        }
        Ok(packed)
    }
}

fn path_and_query(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}

fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, BillError> {
    let mut csv = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    MultiGzDecoder::new(packed).take(limit).read_to_end(&mut csv).map_err(BillError::Packed)?;
    if csv.len() > most {
        return Err(BillError::TooLarge(most));
    }
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bill_that_unpacks_to_more_than_is_bearable_is_refused() {
        let bomb = packed(&vec![b'`'; 100_000]);
        assert!(bomb.len() < 1000);
        assert!(matches!(unpack(&bomb, 99_999), Err(BillError::TooLarge(99_999))));
        assert_eq!(unpack(&bomb, 100_000).unwrap().len(), 100_000);
    }

    #[test]
    fn half_a_file_is_no_file() {
        let whole = packed(b"one,two\r\n`1,`2\r\n");
        assert_eq!(unpack(&whole, 100).unwrap(), b"one,two\r\n`1,`2\r\n");
        for length in 0..whole.len() {
            // Nothing at all unpacks to nothing; its hash is not that of any bill.
            let cut = unpack(&whole[..length], 100);
            assert!(cut.is_err() || length == 0, "{length}");
        }
        assert!(matches!(unpack(b"<html>", 100), Err(BillError::Packed(_))));
    }
}
