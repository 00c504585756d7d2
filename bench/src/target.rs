//! Whom the load goes to, and how an order is put for them: the origin is called as the edge calls it, signed and with a
//! token of its own kind; the peers as a phone would call them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use farmgate_shared::ids::UserId;
use farmgate_shared::token::Claims;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::http::{Connection, text_field};
use crate::sign::{Signer, setting, unix_seconds};

/// Longer than any run.
const TOKEN_SECONDS: u64 = 24 * 3600;
/// 2,316 bytes that are compiled into the origin: the static page that its answers are held against.
pub const PICTURE: &str = "/static/demo/1fad9.webp";

/// What an order asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goods {
    /// One unit of this product, always.
    Hot(i64),
    /// One unit of one product, another each time.
    Spread(Vec<i64>),
    /// One unit each of three SKUs, others each time; the origin alone knows such orders.
    Three(Vec<i64>),
    /// No order: a picture that is compiled into the origin, asked for as the edge asks. The request passes every layer
    /// that one for an order passes, and its handler does nothing but name the bytes.
    Static,
    /// No order: `GET /healthz`, outside the layers.
    Health,
}

/// Somebody who orders.
#[derive(Debug, Clone)]
pub struct Shopper {
    pub id: i64,
    pub address: i64,
    token: String,
}

impl Shopper {
    /// Their access token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }
}

/// One server and the shoppers it knows.
#[derive(Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub shoppers: Vec<Shopper>,
    /// The peers know no edge.
    edge: Option<Signer>,
}

impl Target {
    /// The origin, with shoppers who have no address yet.
    ///
    /// # Errors
    /// When `keys`, the folder that `farmgate-origin keygen` wrote, cannot be read.
    pub fn origin(address: SocketAddr, keys: &Path, users: &[i64]) -> Result<Target> {
        let pem = keys.join("jwt.pem");
        let pem = std::fs::read_to_string(&pem).with_context(|| format!("reading {}", pem.display()))?;
        let pem: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let key = EncodingKey::from_ed_der(&BASE64.decode(pem).context("jwt.pem")?);
        let header = Header {
            kid: Some(setting(&keys.join("origin.env"), "FARMGATE_JWT__KID")?),
            ..Header::new(Algorithm::EdDSA)
        };
        let now = unix_seconds();
        let shopper = |id: &i64| {
            let claims = Claims::access(UserId(*id), 1, now, TOKEN_SECONDS);
            let token = jsonwebtoken::encode(&header, &claims, &key).context("signing a token")?;
            Ok(Shopper { id: *id, address: 0, token })
        };
        let edge = Some(Signer::read(keys)?);
        Ok(Target { address, shoppers: users.iter().map(shopper).collect::<Result<_>>()?, edge })
    }

    /// A peer, whose users and addresses have the same ids.
    ///
    /// # Errors
    /// When a token cannot be signed, which has no case.
    pub fn peer(address: SocketAddr, secret: &str, users: &[i64]) -> Result<Target> {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let expires = unix_seconds() + TOKEN_SECONDS;
        let shopper = |id: &i64| {
            let claims = json!({"id": id, "exp": expires});
            let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?;
            Ok(Shopper { id: *id, address: *id, token })
        };
        Ok(Target { address, shoppers: users.iter().map(shopper).collect::<Result<_>>()?, edge: None })
    }

    /// Has every shopper make an address through the API, since the origin seals it.
    ///
    /// # Errors
    /// When one is refused.
    pub async fn make_addresses(&mut self) -> Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let mut request = Vec::new();
        for index in 0..self.shoppers.len() {
            let Some(shopper) = self.shoppers.get(index) else { break };
            let body = json!({
                "name": "小王", "phone": "13800000000", "province": "山东省", "city": "烟台市",
                "district": "栖霞市", "detail": "果园路 1 号", "is_default": false,
            });
            request.clear();
            self.write(&mut request, "POST", "/api/addresses", shopper, body.to_string().as_bytes(), None);
            let reply = connection.send(&request).await?;
            let text = String::from_utf8_lossy(reply.body);
            anyhow::ensure!(reply.status == 200, "POST /api/addresses says {}: {text}", reply.status);
            let reply: Value = serde_json::from_str(&text)?;
            let id = reply["data"]["id"].as_i64().context("a new address has no id")?;
            if let Some(shopper) = self.shoppers.get_mut(index) {
                shopper.address = id;
            }
        }
        Ok(())
    }

    /// The bytes of one request: `number` is new each time, in all of the run.
    pub fn write_request(&self, out: &mut Vec<u8>, shopper: usize, goods: &Goods, number: u64) {
        out.clear();
        let Some(shopper) = self.shoppers.get(shopper % self.shoppers.len().max(1)) else { return };
        let pick = |from: &[i64], offset: u64| {
            let count = u64::try_from(from.len()).unwrap_or(1).max(1);
            let index = usize::try_from((number + offset) % count).unwrap_or(0);
            from.get(index).copied().unwrap_or(0)
        };
        let one = |product: i64| {
            format!(
                r#"{{"product_id":{product},"quantity":1,"address_id":{},"coupon_id":null}}"#,
                shopper.address
            )
        };
        let body = match goods {
            Goods::Hot(product) => one(*product),
            Goods::Spread(products) => one(pick(products, 0)),
            Goods::Three(skus) => {
                // Apart from each other, so that neighbours in time do not want the same three.
                let [a, b, c] = [0, 7, 19].map(|offset| pick(skus, offset));
                format!(
                    r#"{{"items":[{{"sku_id":{a},"quantity":1}},{{"sku_id":{b},"quantity":1}},{{"sku_id":{c},"quantity":1}}],"address_id":{}}}"#,
                    shopper.address
                )
            }
            Goods::Static => return self.write(out, "GET", PICTURE, shopper, b"", None),
            Goods::Health => {
                out.extend_from_slice(b"GET /healthz HTTP/1.1\r\nhost: bench\r\n\r\n");
                return;
            }
        };
        self.write(out, "POST", "/api/orders", shopper, body.as_bytes(), Some(number));
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        method: &str,
        path: &str,
        shopper: &Shopper,
        body: &[u8],
        key: Option<u64>,
    ) {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nauthorization: Bearer {}\r\n",
            body.len(),
            shopper.token,
        );
        if let Some(edge) = &self.edge {
            head.push_str(&edge.headers(method, path, body, Some(shopper.id)));
            if let Some(number) = key {
                head.push_str(&format!("idempotency-key: bench-{}-{number}\r\n", std::process::id()));
            }
        }
        head.push_str("\r\n");
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
    }
}

/// How a request for an order ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An order was made (or the static page shown).
    Accepted,
    OutOfStock,
    /// The seed's lock was taken: `系统繁忙`.
    Busy,
    /// Anything else; a correct server gives none.
    Failed(String),
}

impl Outcome {
    #[must_use]
    pub fn of(status: u16, body: &[u8]) -> Outcome {
        if status == 200 {
            return Outcome::Accepted;
        }
        match (status, text_field(body, "error")) {
            (409, Some("out_of_stock")) => Outcome::OutOfStock,
            (503, Some("busy")) => Outcome::Busy,
            (_, slug) => Outcome::Failed(format!("{status} {}", slug.unwrap_or("without a slug"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Target {
        Target::peer("127.0.0.1:1".parse().unwrap(), "secret", &[7, 8]).unwrap()
    }

    fn text(target: &Target, shopper: usize, goods: &Goods, number: u64) -> String {
        let mut out = Vec::new();
        target.write_request(&mut out, shopper, goods, number);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_order_is_the_seeds_body_with_its_length() {
        let request = text(&peer(), 1, &Goods::Hot(3), 0);
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, r#"{"product_id":3,"quantity":1,"address_id":8,"coupon_id":null}"#);
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(!head.contains("x-edge-"), "{head}");
    }

    #[test]
    fn spread_goods_change_and_three_differ() {
        let goods = Goods::Spread(vec![1, 2, 3]);
        let bodies: Vec<String> = (0..3).map(|number| text(&peer(), 0, &goods, number)).collect();
        assert!(bodies[0] != bodies[1] && bodies[1] != bodies[2] && bodies[0] != bodies[2]);
        let request = text(&peer(), 0, &Goods::Three((100..228).collect()), 5);
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        let skus: Vec<i64> =
            body["items"].as_array().unwrap().iter().map(|item| item["sku_id"].as_i64().unwrap()).collect();
        assert_eq!(skus, [105, 112, 124]);
    }

    #[test]
    fn only_what_was_expected_is_a_refusal() {
        assert_eq!(Outcome::of(200, b"{}"), Outcome::Accepted);
        assert_eq!(Outcome::of(409, br#"{"error":"out_of_stock"}"#), Outcome::OutOfStock);
        assert_eq!(Outcome::of(503, br#"{"error":"busy"}"#), Outcome::Busy);
        assert_eq!(
            Outcome::of(503, br#"{"error":"unavailable"}"#),
            Outcome::Failed("503 unavailable".to_owned())
        );
        assert_eq!(Outcome::of(500, b"oops"), Outcome::Failed("500 without a slug".to_owned()));
    }
}
