//! The daily trade bill: where it is and what its hash is, signed, and the file itself, unsigned. Promises the shop the real
//! one's form (a byte-order mark, a backtick in front of each cell, CRLF, totals at the end), its times (not before ten the
//! next day, three months back, an address that is good for five minutes and needs the merchant's signature), and a bill of
//! exactly the trades that this simulator knows, unless a fault changes it.

use std::collections::HashMap;
use std::io::Write as _;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use time::macros::{format_description, offset, time};
use time::{Date, Duration, OffsetDateTime};

use crate::controls::{Refused, Reply, done, read};
use crate::keys::random_text;
use crate::refunds::Refund;
use crate::reply::{PayError, Unsigned, json_reply};
use crate::state::{Books, Shared, now};

/// Seconds that a bill's address is good for.
const ADDRESS_SECONDS: i64 = 300;
const HEADER: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注";
const TOTALS: &str =
    "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额";
/// Hundred-thousandths of the price, as the bill's fee column has them: 0.60%.
const FEE_PER_100_000: i64 = 600;

/// What is wrong with the next bill. `number` is the line's `out_trade_no`, or its `out_refund_no` for a refund.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum BillFault {
    /// One more sale, or one more refund of it, which nobody here made.
    AddedLine {
        number: String,
        fen: i64,
        refund: Option<String>,
    },
    DroppedLine {
        number: String,
    },
    DoubledLine {
        number: String,
    },
    /// Its amount is another.
    WrongAmount {
        number: String,
        fen: i64,
    },
    /// Its state is another.
    WrongState {
        number: String,
        state: String,
    },
    /// One more sale, of another app of the same merchant.
    OtherApp {
        fen: i64,
    },
    /// A column that nobody announced, between the others.
    NewColumn,
    /// The totals are not those of the lines.
    WrongTotals,
    /// The hash is that of another file.
    WrongHash,
    /// The file ends in the middle.
    Truncated,
    /// WeChat is still writing it.
    BeingWritten,
}

/// The files that can be fetched, by the token in their address.
#[derive(Debug, Default)]
pub struct Files(HashMap<String, File>);

#[derive(Debug)]
struct File {
    bytes: Vec<u8>,
    /// Seconds since 1970.
    good_until: i64,
}

/// One line of a bill.
#[derive(Clone, Debug)]
struct Line {
    /// Seconds since 1970.
    at: i64,
    appid: String,
    transaction_id: String,
    out_trade_no: String,
    openid: String,
    bank_type: String,
    /// What the order costs; of a refund, what goes back.
    fen: i64,
    description: String,
    /// WeChat's number of the refund, ours, and how it stands.
    refund: Option<(String, String, String)>,
    state: String,
}

impl Line {
    fn number(&self) -> &str {
        self.refund.as_ref().map_or(&self.out_trade_no, |(_, out_refund_no, _)| out_refund_no)
    }

    fn cells(&self, mchid: &str) -> Vec<String> {
        let (sale, refund) = if self.refund.is_some() { (0, self.fen) } else { (self.fen, 0) };
        let (refund_id, out_refund_no, refund_state) =
            self.refund.clone().unwrap_or(("0".into(), "0".into(), String::new()));
        let fee = (sale - refund) * FEE_PER_100_000 / 100;
        let fee =
            format!("{}{}.{:05}", if fee < 0 { "-" } else { "" }, fee.abs() / 100_000, fee.abs() % 100_000);
        [
            moment(self.at).as_str(),
            &self.appid,
            mchid,
            "0",
            "",
            &self.transaction_id,
            &self.out_trade_no,
            &self.openid,
            "JSAPI",
            if self.refund.is_some() { "REFUND" } else { &self.state },
            &self.bank_type,
            "CNY",
            &yuan(sale),
            "0.00",
            &refund_id,
            &out_refund_no,
            &yuan(refund),
            "0.00",
            if self.refund.is_some() { "ORIGINAL" } else { "" },
            &refund_state,
            &self.description,
            "",
            &fee,
            "0.60%",
            &yuan(sale),
            &yuan(refund),
            "",
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

/// The day in Beijing, and the moment as a bill writes it.
fn day_of(unix: i64) -> Option<Date> {
    OffsetDateTime::from_unix_timestamp(unix).ok().map(|moment| moment.to_offset(offset!(+8)).date())
}

fn moment(unix: i64) -> String {
    crate::state::beijing_time(unix).replace('T', " ").chars().take(19).collect()
}

/// All trades of a day, oldest first.
fn lines(books: &Books, appid: &str, day: Date) -> Vec<Line> {
    let mut lines = Vec::new();
    for order in books.orders.values() {
        let Some(payment) = &order.payment else { continue };
        lines.push(Line {
            at: unix(&payment.success_time),
            appid: appid.to_owned(),
            transaction_id: payment.transaction_id.clone(),
            out_trade_no: order.prepay.out_trade_no.clone(),
            openid: order.prepay.openid.clone(),
            bank_type: payment.bank_type.to_owned(),
            fen: order.prepay.total,
            description: order.request["description"].as_str().unwrap_or_default().to_owned(),
            refund: None,
            state: "SUCCESS".to_owned(),
        });
    }
    for refund in books.refunds.values().map(Refund::in_bill) {
        let sale =
            lines.iter().find(|line| line.refund.is_none() && line.out_trade_no == refund.out_trade_no);
        let Some(sale) = sale.cloned() else { continue };
        let numbers = (refund.refund_id.to_owned(), refund.out_refund_no.to_owned(), refund.state.to_owned());
        lines.push(Line { at: unix(refund.at), fen: refund.fen, refund: Some(numbers), ..sale });
    }
    lines.retain(|line| day_of(line.at) == Some(day));
    lines.sort_by(|one, other| (one.at, one.number()).cmp(&(other.at, other.number())));
    lines
}

fn unix(rfc3339: &str) -> i64 {
    OffsetDateTime::parse(rfc3339, &time::format_description::well_known::Rfc3339)
        .map_or(0, OffsetDateTime::unix_timestamp)
}

fn changed(mut lines: Vec<Line>, faults: &[BillFault], appid: &str, day: Date) -> Vec<Line> {
    let noon = day.with_time(time!(12:00)).assume_offset(offset!(+8)).unix_timestamp();
    let stranger = |appid: &str, number: &str, fen: i64| Line {
        at: noon,
        appid: appid.to_owned(),
        transaction_id: format!("4200{}", random_text(b"0123456789", 24)),
        out_trade_no: number.to_owned(),
        openid: "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".to_owned(),
        bank_type: "OTHERS".to_owned(),
        fen,
        description: "别处的订单, 两件".to_owned(),
        refund: None,
        state: "SUCCESS".to_owned(),
    };
    for fault in faults {
        match fault {
            BillFault::AddedLine { number, fen, refund } => {
                let mut line = stranger(appid, number, *fen);
                let refund_id = format!("5030{}", random_text(b"0123456789", 24));
                line.refund = refund.clone().map(|number| (refund_id, number, "SUCCESS".to_owned()));
                lines.push(line);
            }
            BillFault::OtherApp { fen } => lines.push(stranger("wxd678efh567hg6787", "another-app-1", *fen)),
            BillFault::DroppedLine { number } => lines.retain(|line| line.number() != number),
            BillFault::DoubledLine { number } => {
                lines.extend(lines.iter().find(|line| line.number() == number).cloned());
            }
            BillFault::WrongAmount { number, fen } => {
                lines.iter_mut().filter(|line| line.number() == number).for_each(|line| line.fen = *fen);
            }
            BillFault::WrongState { number, state } => {
                for line in lines.iter_mut().filter(|line| line.number() == number) {
                    match &mut line.refund {
                        Some((_, _, refund_state)) => refund_state.clone_from(state),
                        None => line.state.clone_from(state),
                    }
                }
            }
            _ => {}
        }
    }
    lines
}

fn csv(lines: &[Line], mchid: &str, faults: &[BillFault]) -> String {
    let more = faults.contains(&BillFault::NewColumn);
    let mut text = format!("\u{feff}{}{HEADER}\r\n", if more { "新列," } else { "" });
    for line in lines {
        let cells = line.cells(mchid).join(",`");
        text.push_str(&format!("`{}{cells}\r\n", if more { "x,`" } else { "" }));
    }
    let sum = |is_refund: bool| -> i64 {
        lines.iter().filter(|line| line.refund.is_some() == is_refund).map(|line| line.fen).sum()
    };
    let (sales, refunds) = (sum(false), sum(true));
    let sales = if faults.contains(&BillFault::WrongTotals) { sales + 1 } else { sales };
    let totals = [&yuan(sales), &yuan(refunds), "0.00", "0.00000", &yuan(sales), &yuan(refunds)].join(",`");
    text.push_str(&format!("{TOTALS}\r\n`{},`{totals}\r\n", lines.len()));
    text
}

#[derive(Deserialize)]
pub struct Asked {
    bill_date: Option<String>,
    bill_type: Option<String>,
    tar_type: Option<String>,
}

/// The day that is asked for, if its bill can be had.
fn day_asked_for(text: &str, now: i64) -> Result<Date, PayError> {
    let format = format_description!("[year]-[month]-[day]");
    let day = Date::parse(text, &format)
        .map_err(|_| PayError::param("账单日期bill_date格式错误，应为YYYY-MM-DD"))?;
    let today = day_of(now).unwrap_or(day);
    if day >= today {
        return Err(PayError::param("账单日期bill_date不合法"));
    }
    let ready = (day + Duration::DAY).with_time(time!(10:00)).assume_offset(offset!(+8));
    if now < ready.unix_timestamp() {
        return Err(PayError::new(StatusCode::BAD_REQUEST, "STATEMENT_CREATING", "账单生成中"));
    }
    if today - day > Duration::days(92) {
        return Err(PayError::param("账单日期bill_date超过三个月"));
    }
    Ok(day)
}

/// GET /v3/bill/tradebill
pub async fn tradebill(
    State(sim): State<Shared>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Response, PayError> {
    let now = now();
    let day = day_asked_for(asked.bill_date.as_deref().unwrap_or_default(), now)?;
    if asked.bill_type.as_deref().is_some_and(|kind| kind != "ALL") {
        return Err(PayError::param("账单类型bill_type：模拟器只提供ALL"));
    }
    let is_packed = match asked.tar_type.as_deref() {
        None => false,
        Some("GZIP") => true,
        Some(_) => return Err(PayError::param("压缩类型tar_type应为GZIP")),
    };
    let merchant = &sim.keys.merchant;
    let mut books = sim.books();
    let faults = books.faults.take_bill();
    if faults.contains(&BillFault::BeingWritten) {
        return Err(PayError::new(StatusCode::BAD_REQUEST, "STATEMENT_CREATING", "账单生成中"));
    }
    let lines = changed(lines(&books, &merchant.appid, day), &faults, &merchant.appid, day);
    if lines.is_empty() {
        return Err(PayError::new(StatusCode::BAD_REQUEST, "NO_STATEMENT_EXIST", "账单文件不存在"));
    }
    let csv = csv(&lines, &merchant.mchid, &faults).into_bytes();
    let hash = if faults.contains(&BillFault::WrongHash) { Sha1::digest(b"") } else { Sha1::digest(&csv) };
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut bytes = if is_packed { packed(&csv)? } else { csv };
    if faults.contains(&BillFault::Truncated) {
        bytes.truncate(bytes.len() / 2);
    }
    let token = URL_SAFE_NO_PAD.encode(random_text(b"abcdefghijklmnopqrstuvwxyz0123456789", 48));
    books.bills.0.retain(|_, file| file.good_until >= now);
    books.bills.0.insert(token.clone(), File { bytes, good_until: now + ADDRESS_SECONDS });
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let told = json!({
        "hash_type": "SHA1",
        "hash_value": hash,
        "download_url": format!("http://{host}/v3/billdownload/file?token={token}"),
    });
    Ok(json_reply(StatusCode::OK, &told))
}

fn packed(csv: &[u8]) -> Result<Vec<u8>, PayError> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(csv)
        .and_then(|()| encoder.finish())
        .map_err(|_| PayError::new(StatusCode::INTERNAL_SERVER_ERROR, "SYSTEM_ERROR", "系统错误"))
}

/// GET /v3/billdownload/file?token=
pub async fn download(
    State(sim): State<Shared>,
    Query(asked): Query<HashMap<String, String>>,
) -> Result<Response, PayError> {
    let books = sim.books();
    let file = asked.get("token").and_then(|token| books.bills.0.get(token));
    let good = file.filter(|file| file.good_until >= now());
    let file = good.ok_or_else(|| {
        PayError::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "请重新获取账单地址后再请求")
    })?;
    let mut reply = ([(header::CONTENT_TYPE, "text/plain")], file.bytes.clone()).into_response();
    reply.extensions_mut().insert(Unsigned);
    Ok(reply)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backdate {
    out_trade_no: Option<String>,
    out_refund_no: Option<String>,
    /// RFC 3339, +08:00.
    success_time: String,
}

/// POST /sim/bills/backdate: the payment, or the refund, was made then.
pub async fn backdate(State(sim): State<Shared>, body: Bytes) -> Reply {
    let Backdate { out_trade_no, out_refund_no, success_time } = read(&body)?;
    let mut guard = sim.books();
    let Books { orders, refunds, .. } = &mut *guard;
    let payment = out_trade_no.and_then(|number| orders.get_mut(&number)?.payment.as_mut());
    let refund = out_refund_no.and_then(|number| refunds.get_mut(&number));
    match (payment, refund) {
        (Some(payment), None) => payment.success_time = success_time,
        (None, Some(refund)) => refund.backdate(success_time),
        _ => {
            return Err(Refused::new(StatusCode::NOT_FOUND, "no such payment, or no such refund".to_owned()));
        }
    }
    done(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 1_795_320_000; // 2026-11-22T12:00:00+08:00

    #[test]
    fn a_day_is_beijings_and_its_bill_is_ready_at_ten() {
        assert_eq!(moment(NOON), "2026-11-22 12:00:00");
        let ten = NOON - 2 * 3600;
        assert!(day_asked_for("2026-11-21", ten).is_ok());
        for (day, now, code) in [
            ("2026-11-21", ten - 1, "STATEMENT_CREATING"),
            ("2026-11-22", NOON, "PARAM_ERROR"),
            ("2027-01-01", NOON, "PARAM_ERROR"),
            ("2026-08-21", NOON, "PARAM_ERROR"),
            ("20261121", NOON, "PARAM_ERROR"),
        ] {
            assert_eq!(day_asked_for(day, now).unwrap_err().code, code, "{day}");
        }
        assert!(day_asked_for("2026-08-22", NOON).is_ok());
    }

    #[test]
    fn a_refund_takes_its_fee_back() {
        let line = Line {
            at: NOON,
            appid: "wx1".into(),
            transaction_id: "42".into(),
            out_trade_no: "T1".into(),
            openid: "o1".into(),
            bank_type: "OTHERS".into(),
            fen: 5000,
            description: "苹果".into(),
            refund: Some(("503".into(), "R1".into(), "SUCCESS".into())),
            state: "SUCCESS".into(),
        };
        let cells = line.cells("1600000001");
        assert_eq!(cells.len(), HEADER.split(',').count());
        assert_eq!(
            (cells[9].as_str(), cells[22].as_str(), cells[25].as_str()),
            ("REFUND", "-0.30000", "50.00")
        );
        let text = csv(&[line], "1600000001", &[]);
        assert!(text.ends_with("`1,`0.00,`50.00,`0.00,`0.00000,`0.00,`50.00\r\n"), "{text}");
    }
}
