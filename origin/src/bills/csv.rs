//! WeChat's trade bill as it is written: a header, a line a trade with a backtick in front of each cell, and a block of
//! totals. Columns are found by their names, so that one more does no harm; everything else is read strictly, and the
//! totals must be those of the lines, so that half a bill is no bill.

use std::collections::HashMap;

use farmgate_shared::money::Fen;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::model::BillLine;
use crate::clock::SHANGHAI;

const MOMENT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
/// The columns of our tables.
const MOST_CHARACTERS: usize = 64;

/// Why a bill cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the bill is not UTF-8")]
    Encoding,
    #[error("the bill has no column {0}")]
    NoColumn(&'static str),
    #[error("the bill has the column {0} twice")]
    DoubledColumn(String),
    #[error("line {line} of the bill: {what}")]
    Line { line: usize, what: &'static str },
    #[error("the bill ends without its totals")]
    NoTotals,
    #[error("the bill's total {name} is {told}, its lines make {counted}")]
    Total { name: &'static str, told: String, counted: String },
}

/// The columns that matter.
struct Columns {
    moment: usize,
    appid: usize,
    transaction_id: usize,
    out_trade_no: usize,
    trade_state: usize,
    currency: usize,
    out_refund_no: usize,
    refund_state: usize,
    amount: usize,
    refund: usize,
    count: usize,
}

const COUNT: &str = "总交易单数";
const AMOUNTS: &str = "订单总金额";
const REFUNDS: &str = "申请退款总金额";

/// Reads a whole bill, as it is after unpacking.
///
/// # Errors
/// [`FormatError`]; then nothing of it may be used.
pub fn read(csv: &[u8]) -> Result<Vec<BillLine>, FormatError> {
    let text = std::str::from_utf8(csv).map_err(|_| FormatError::Encoding)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = text.split('\n').map(|row| row.strip_suffix('\r').unwrap_or(row)).enumerate();
    let header = rows.next().map_or("", |(_, row)| row);
    let columns = Columns::find(header)?;
    let mut lines = Vec::new();
    let totals = loop {
        let Some((index, row)) = rows.next() else { return Err(FormatError::NoTotals) };
        let Some(cells) = row.strip_prefix('`') else { break row };
        lines.push(columns.line(index + 1, &cells.split(",`").collect::<Vec<_>>())?);
    };
    let (line, values) = rows.next().ok_or(FormatError::NoTotals)?;
    let names = named(totals)?;
    let values = values.strip_prefix('`').ok_or(FormatError::NoTotals)?.split(",`").collect::<Vec<_>>();
    if values.len() != names.len() {
        return Err(FormatError::Line {
            line: line + 1,
            what: "totals without a name, or names without totals",
        });
    }
    if let Some((line, _)) = rows.find(|(_, row)| !row.is_empty()) {
        return Err(FormatError::Line { line: line + 1, what: "something after the totals" });
    }
    check_totals(&lines, &names, &values)?;
    Ok(lines)
}

/// Each name and where it stands.
fn named(header: &str) -> Result<HashMap<&str, usize>, FormatError> {
    let mut places = HashMap::new();
    for (place, name) in header.split(',').enumerate() {
        if places.insert(name.trim(), place).is_some() {
            return Err(FormatError::DoubledColumn(name.trim().to_owned()));
        }
    }
    Ok(places)
}

impl Columns {
    fn find(header: &str) -> Result<Columns, FormatError> {
        let places = named(header)?;
        let place = |name: &'static str| places.get(name).copied().ok_or(FormatError::NoColumn(name));
        Ok(Columns {
            moment: place("交易时间")?,
            appid: place("公众账号ID")?,
            transaction_id: place("微信订单号")?,
            out_trade_no: place("商户订单号")?,
            trade_state: place("交易状态")?,
            currency: place("货币种类")?,
            out_refund_no: place("商户退款单号")?,
            refund_state: place("退款状态")?,
            amount: place("订单金额")?,
            refund: place("申请退款金额")?,
            count: places.len(),
        })
    }

    fn line(&self, line: usize, cells: &[&str]) -> Result<BillLine, FormatError> {
        let wrong = |what: &'static str| FormatError::Line { line, what };
        if cells.len() != self.count {
            return Err(wrong("another number of cells than the header has"));
        }
        let cell = |place: usize| cells.get(place).map_or("", |cell| cell.trim());
        let number = |place: usize, what: &'static str| {
            let text = cell(place);
            let is_one = (1..=MOST_CHARACTERS).contains(&text.len()) && text.is_ascii();
            if is_one { Ok(text.to_owned()) } else { Err(wrong(what)) }
        };
        let money = |place: usize, what: &'static str| {
            Fen::parse_yuan(cell(place)).ok().filter(|fen| *fen >= Fen::ZERO).ok_or_else(|| wrong(what))
        };
        let happened_at = PrimitiveDateTime::parse(cell(self.moment), MOMENT)
            .map_err(|_| wrong("the time is none"))?
            .assume_offset(SHANGHAI);
        if cell(self.currency) != "CNY" {
            return Err(wrong("another currency than CNY"));
        }
        let trade_state = number(self.trade_state, "the trade has no state")?;
        let is_refund = trade_state == "REFUND";
        let (amount, state, out_refund_no) = if is_refund {
            (
                money(self.refund, "the refund is no amount in yuan")?,
                number(self.refund_state, "the refund has no state")?,
                number(self.out_refund_no, "the refund has no number")?,
            )
        } else {
            (money(self.amount, "the price is no amount in yuan")?, trade_state, String::new())
        };
        Ok(BillLine {
            happened_at,
            appid: number(self.appid, "no app")?,
            transaction_id: number(self.transaction_id, "no number of WeChat's")?,
            out_trade_no: number(self.out_trade_no, "no number of the merchant's")?,
            out_refund_no,
            amount,
            state,
        })
    }
}

/// The number of lines always has to fit. The sums do where every line is a sale or a refund; what a payment code that was
/// revoked adds to them is WeChat's secret, and no mini-program has any.
fn check_totals(
    lines: &[BillLine],
    names: &HashMap<&str, usize>,
    values: &[&str],
) -> Result<(), FormatError> {
    let told = |name: &'static str| {
        names.get(name).and_then(|place| values.get(*place)).copied().ok_or(FormatError::NoColumn(name))
    };
    let count = told(COUNT)?;
    // The older interface writes `6.0`.
    if count.strip_suffix(".0").unwrap_or(count) != lines.len().to_string() {
        let (told, counted) = (count.to_owned(), lines.len().to_string());
        return Err(FormatError::Total { name: COUNT, told, counted });
    }
    if lines.iter().any(|line| !line.is_refund() && line.state != "SUCCESS") {
        return Ok(());
    }
    for (name, is_refund) in [(AMOUNTS, false), (REFUNDS, true)] {
        let amounts = lines.iter().filter(|line| line.is_refund() == is_refund).map(|line| line.amount);
        let counted = Fen::checked_sum(amounts);
        let told = told(name)?;
        if counted.is_none() || Fen::parse_yuan(told).ok() != counted {
            let counted = counted.map_or_else(|| "too much".to_owned(), |sum| sum.to_string());
            return Err(FormatError::Total { name, told: told.to_owned(), counted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const HEADER: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注";
    const SALE: &str = "`2026-11-22 23:59:59,`wx1,`1600000001,`0,`,`4200001,`T1,`o1,`JSAPI,`SUCCESS,`OTHERS,`CNY,`9.90,`0.00,`0,`0,`0.00,`0.00,`,`,`苹果, 5斤,`,`0.05940,`0.60%,`10.00,`0.00,`";
    const REFUND: &str = "`2026-11-22 08:00:00,`wx1,`1600000001,`0,`,`4200000,`T0,`o1,`JSAPI,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`5030001,`R1,`3.00,`0.00,`ORIGINAL,`SUCCESS,`苹果,`,`-0.01800,`0.60%,`0.00,`3.00,`";
    const TOTALS: &str =
        "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额";

    fn bill(lines: &[&str], totals: &str) -> String {
        let mut rows = vec![HEADER];
        rows.extend(lines);
        rows.extend([TOTALS, totals, ""]);
        rows.join("\r\n")
    }

    fn whole() -> String {
        bill(&[SALE, REFUND], "`2,`9.90,`3.00,`0.00,`0.04000,`10.00,`3.00")
    }

    #[test]
    fn a_bill_is_read() {
        let lines = read(format!("\u{feff}{}", whole()).as_bytes()).unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0],
            BillLine {
                happened_at: datetime!(2026-11-22 15:59:59 UTC),
                appid: "wx1".into(),
                transaction_id: "4200001".into(),
                out_trade_no: "T1".into(),
                out_refund_no: String::new(),
                amount: Fen(1000),
                state: "SUCCESS".into(),
            }
        );
        assert_eq!((lines[1].out_refund_no.as_str(), lines[1].amount), ("R1", Fen(300)));
        assert_eq!(read(whole().replace("\r\n", "\n").trim_end().as_bytes()).unwrap(), lines);
    }

    #[test]
    fn a_new_column_does_no_harm() {
        let wider = whole()
            .replace("费率备注", "费率备注,新的一列")
            .replace("3.00,`\r\n", "3.00,`,`x\r\n")
            .replace("10.00,`0.00,`\r\n", "10.00,`0.00,`,`x\r\n")
            .replace("交易时间,公众账号ID", "公众账号ID,交易时间")
            .replace("`2026-11-22 23:59:59,`wx1", "`wx1,`2026-11-22 23:59:59")
            .replace("`2026-11-22 08:00:00,`wx1", "`wx1,`2026-11-22 08:00:00");
        assert_eq!(read(wider.as_bytes()).unwrap(), read(whole().as_bytes()).unwrap());
    }

    #[test]
    fn a_day_may_have_no_lines() {
        let empty = bill(&[], "`0,`0.00,`0.00,`0.00,`0.00000,`0.00,`0.00");
        assert_eq!(read(empty.as_bytes()).unwrap(), []);
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let whole = whole();
        // Cut anywhere before the last cent of the last total (`3.00` is `3`), it is no bill.
        for length in (0..whole.len() - ".00\r\n".len()).filter(|length| whole.is_char_boundary(*length)) {
            assert!(read(&whole.as_bytes()[..length]).is_err(), "{length}");
        }
        for (from, to) in [
            ("商户订单号", "订单号"),
            ("微信退款单号", "商户退款单号"),
            ("`CNY", "`USD"),
            ("23:59:59", "24:00:00"),
            ("`10.00,`0.00", "`10.001,`0.00"),
            ("`10.00,`0.00", "`-10.00,`0.00"),
            ("`10.00,`0.00", "`1e1,`0.00"),
            ("`T1,", "`,"),
            ("`R1,", "`,"),
            ("`T1,", "`订单,"),
            ("`wx1,`1600000001", "`wx1"),
            ("`2,`9.90", "`3,`9.90"),
            ("0.04000,`10.00", "0.04000,`10.01"),
            ("10.00,`3.00\r\n", "10.00,`3.01\r\n"),
            ("总交易单数", "总数"),
        ] {
            assert!(whole.contains(from), "{from}");
            assert!(read(whole.replacen(from, to, 1).as_bytes()).is_err(), "{from} → {to}");
        }
        assert!(read(format!("{whole}`more\r\n").as_bytes()).is_err());
        assert_eq!(read(b"\xff"), Err(FormatError::Encoding));
    }
}
