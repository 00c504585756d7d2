//! A stub origin for the benchmark of the edge: it speaks the contract between the two (a version on each catalogue read,
//! stock apart) and does nothing else, so that what is measured is the edge. It checks no signature.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use farmgate_shared::api::catalog::{ProductDetail, ProductSummary, Sku};
use farmgate_shared::api::{Page, Reply};
use farmgate_shared::ids::{CategoryId, ProductId, SkuId};
use farmgate_shared::money::Fen;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The list that is asked for: with these a body of about 2 KB.
pub const LIST_PATH: &str = "/api/products?page=1&size=7";
/// The product whose page is asked for: about 2 KB too.
pub const DETAIL_PATH: &str = "/api/products/1";
/// What a shopper asks for with a token.
pub const USER_PATH: &str = "/api/user/info";

const PAGE_SIZE: i64 = 7;
const STOCK: i64 = 100;
/// Never raised: what is measured is the edge at rest.
const VERSION: i64 = 1;
/// Longest head that is read.
const MOST_BYTES: usize = 64 * 1024;

/// Serves until the process is ended.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            // A connection that the edge drops is its own affair.
            let _ = converse(stream).await;
        });
    }
}

async fn converse(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            anyhow::ensure!(buffer.len() < MOST_BYTES, "a head without an end");
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default();
        stream.write_all(&answer(path)?).await?;
        // Only reads without a body come here.
        buffer.drain(..end);
    }
}

/// The whole reply to `GET <path>`.
fn answer(path: &str) -> Result<Vec<u8>> {
    let (route, query) = path.split_once('?').unwrap_or((path, ""));
    let (status, body) = match route {
        "/healthz" => ("200 OK", b"\"ok\"".to_vec()),
        "/api/products" => ("200 OK", body(list())?),
        DETAIL_PATH => ("200 OK", body(detail())?),
        "/api/stock" => ("200 OK", body(stock(query))?),
        USER_PATH => ("200 OK", body(user())?),
        _ => ("404 Not Found", b"{\"code\":404,\"message\":\"\",\"error\":\"not_found\"}".to_vec()),
    };
    let mut reply =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    if route != USER_PATH {
        reply.push_str(&format!("x-catalog-version: {VERSION}\r\n"));
    }
    reply.push_str("\r\n");
    let mut reply = reply.into_bytes();
    reply.extend_from_slice(&body);
    Ok(reply)
}

fn body(data: impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Reply::new("获取成功", data))?)
}

fn list() -> Page<ProductSummary> {
    let product = |id: i64| ProductSummary {
        id: ProductId(id),
        name: format!("烟台红富士苹果 第{id}号果园 现摘现发"),
        price: Fen(1580),
        original_price: Some(Fen(1980)),
        images: vec!["https://shop.example.com/static/demo/1f34e.webp".to_owned()],
        stock: STOCK,
        category_id: CategoryId(1),
        unit: "箱".to_owned(),
        origin: "山东烟台栖霞".to_owned(),
        tags: vec!["当季".to_owned(), "产地直发".to_owned()],
    };
    Page { list: (1..=PAGE_SIZE).map(product).collect(), total: 68, page: 1, size: 7 }
}

fn detail() -> ProductDetail {
    let sku = |id: i64| Sku {
        id: SkuId(id),
        specifications: format!("{} 斤装 果径 80 毫米以上", id * 5),
        price: Fen(1580 * id),
        original_price: Some(Fen(1980 * id)),
        weight_grams: Some(2500 * id),
        stock: STOCK,
    };
    ProductDetail {
        id: ProductId(1),
        name: "烟台红富士苹果".to_owned(),
        description: "海拔三百米的坡地，昼夜温差大，果肉脆而多汁。不打蜡，不催熟，采摘当天装箱。".repeat(10),
        price: Fen(1580),
        original_price: Some(Fen(1980)),
        images: vec!["https://shop.example.com/static/demo/1f34e.webp".to_owned()],
        specifications: "一级果，冷藏可放四周".to_owned(),
        stock: 3 * STOCK,
        category_id: CategoryId(1),
        brand: "笑姐家".to_owned(),
        origin: "山东烟台栖霞".to_owned(),
        unit: "箱".to_owned(),
        weight_grams: Some(2500),
        tags: vec!["当季".to_owned(), "产地直发".to_owned()],
        skus: (1..=3).map(sku).collect(),
    }
}

/// By `products=` or by `ids=`, as the contract has it.
fn stock(query: &str) -> Value {
    let numbers = |name: &str| {
        let given = query.split('&').find_map(|pair| pair.strip_prefix(name)).unwrap_or_default();
        given.replace("%2C", ",").split(',').filter_map(|id| id.parse::<i64>().ok()).collect::<Vec<i64>>()
    };
    let product = numbers("products=").into_iter().flat_map(|product| {
        let skus = if product == 1 { 1..=3 } else { product..=product };
        skus.map(move |sku| json!({"sku_id": sku, "product_id": product, "stock": STOCK}))
    });
    let sku = numbers("ids=").into_iter();
    let sku = sku.map(|sku| json!({"sku_id": sku, "product_id": sku, "stock": STOCK}));
    product.chain(sku).collect()
}

fn user() -> Value {
    json!({"id": 7, "nickname": "小王", "avatar": "", "phone": null, "gender": 0, "points": 0, "level": 1})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        String::from_utf8(answer(path).unwrap()).unwrap()
    }

    #[test]
    fn catalogue_reads_name_a_version_and_private_ones_do_not() {
        for path in [LIST_PATH, DETAIL_PATH, "/api/stock?products=1,2", "/api/nothing"] {
            assert!(text(path).contains("x-catalog-version: 1\r\n"), "{path}");
        }
        assert!(!text(USER_PATH).contains("x-catalog-version"));
    }

    #[test]
    fn both_pages_are_of_about_two_kilobytes() {
        for path in [LIST_PATH, DETAIL_PATH] {
            let length = text(path).split_once("\r\n\r\n").unwrap().1.len();
            assert!((1800..2600).contains(&length), "{path}: {length}");
        }
    }

    #[test]
    fn stock_is_told_by_product_and_by_sku() {
        assert_eq!(stock("products=1,2").as_array().unwrap().len(), 4);
        assert_eq!(stock("ids=5")[0], json!({"sku_id": 5, "product_id": 5, "stock": STOCK}));
        assert_eq!(stock(""), json!([]));
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_many_questions() {
        let address = {
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
            free.local_addr().unwrap()
        };
        let server = tokio::spawn(serve(address));
        let mut connection = loop {
            match crate::http::Connection::open(address).await {
                Ok(connection) => break connection,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        for _ in 0..3 {
            let reply = connection.send(&crate::reads::plain(USER_PATH, &[])).await.unwrap();
            assert_eq!(reply.status, 200);
        }
        server.abort();
    }
}
