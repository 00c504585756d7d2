//! Templates of subscribe messages: which of a shop's own fields shows what, and how a value is made to fit its field. A
//! template's fields are named by type and number, `thing1`, and differ from shop to shop, so the settings say what goes in.

use anyhow::{Context, bail, ensure};
use farmgate_shared::api::messages::MessageTemplates;
use farmgate_shared::money::Fen;
use serde_json::{Map, Value as Json, json};
use time::OffsetDateTime;

use crate::clock::SHANGHAI;
use crate::config::MessagesConfig;

/// When a shopper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    Paid,
    Shipped,
    Refunded,
}

impl Occasion {
    /// The name in the database and in the settings.
    pub const fn name(self) -> &'static str {
        match self {
            Occasion::Paid => "paid",
            Occasion::Shipped => "shipped",
            Occasion::Refunded => "refunded",
        }
    }

    /// At most five characters, as a `phrase` takes it.
    const fn status(self) -> &'static str {
        match self {
            Occasion::Paid => "已付款",
            Occasion::Shipped => "已发货",
            Occasion::Refunded => "已退款",
        }
    }
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    OrderNo,
    Product,
    Quantity,
    Amount,
    Time,
    Status,
    Company,
    TrackingNo,
}

impl Value {
    fn parse(name: &str) -> Option<Value> {
        Some(match name {
            "order_no" => Value::OrderNo,
            "product" => Value::Product,
            "quantity" => Value::Quantity,
            "amount" => Value::Amount,
            "time" => Value::Time,
            "status" => Value::Status,
            "company" => Value::Company,
            "tracking_no" => Value::TrackingNo,
            _ => return None,
        })
    }
}

/// The types of fields that the shop can fill, with WeChat's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Anything, 20 characters.
    Thing,
    /// Digits, letters and signs, 32.
    CharacterString,
    /// A currency's sign, and ten digits at most.
    Amount,
    /// Day and time of day.
    Time,
    /// Day.
    Date,
    /// Five Chinese characters.
    Phrase,
    /// 32 digits.
    Number,
}

impl Kind {
    fn parse(name: &str) -> Option<Kind> {
        Some(match name {
            "thing" => Kind::Thing,
            "character_string" => Kind::CharacterString,
            "amount" => Kind::Amount,
            "time" => Kind::Time,
            "date" => Kind::Date,
            "phrase" => Kind::Phrase,
            "number" => Kind::Number,
            _ => return None,
        })
    }

    /// Whether a field of this type can show the value at all.
    fn takes(self, value: Value) -> bool {
        match self {
            Kind::Thing => true,
            Kind::CharacterString => {
                matches!(value, Value::OrderNo | Value::TrackingNo | Value::Quantity)
            }
            Kind::Amount => value == Value::Amount,
            Kind::Time | Kind::Date => value == Value::Time,
            Kind::Phrase => value == Value::Status,
            Kind::Number => value == Value::Quantity,
        }
    }
}

const THING_CHARS: usize = 20;
const STRING_CHARS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    /// As WeChat calls it: `thing1`.
    name: String,
    kind: Kind,
    value: Value,
}

impl Field {
    fn parse(text: &str) -> anyhow::Result<Field> {
        let (name, value) = text.split_once('=').with_context(|| format!("{text:?} is not field=value"))?;
        let (name, value) = (name.trim(), value.trim());
        let kind = name.trim_end_matches(|character: char| character.is_ascii_digit());
        ensure!(kind.len() < name.len(), "a field is a type and a number, as thing1: {name:?}");
        let kind = Kind::parse(kind).with_context(|| format!("nothing fills a field like {name:?}"))?;
        let value = Value::parse(value).with_context(|| format!("there is no value {value:?}"))?;
        ensure!(kind.takes(value), "the field {name} cannot show that: {text:?}");
        Ok(Field { name: name.to_owned(), kind, value })
    }
}

/// One template of the shop's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub id: String,
    fields: Vec<Field>,
}

impl Template {
    /// `None` where the id is empty: the message is off.
    fn parse(id: &str, fields: &str) -> anyhow::Result<Option<Template>> {
        let id = id.trim();
        if id.is_empty() {
            return Ok(None);
        }
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        ensure!(id.len() <= 64 && id.bytes().all(is_id), "a template's id has letters, digits, - and _");
        let fields: Vec<Field> = fields.split(',').map(Field::parse).collect::<anyhow::Result<_>>()?;
        for (index, field) in fields.iter().enumerate() {
            let is_twice = fields.iter().take(index).any(|earlier| earlier.name == field.name);
            ensure!(!is_twice, "the field {} is filled twice", field.name);
        }
        Ok(Some(Template { id: id.to_owned(), fields }))
    }

    /// The message's `data`.
    pub fn data(&self, facts: &Facts) -> Json {
        let filled = self.fields.iter().map(|field| {
            (field.name.clone(), json!({"value": fitted(field.kind, &facts.text(field.kind, field.value))}))
        });
        Json::Object(filled.collect::<Map<_, _>>())
    }
}

/// Makes a text what its field may hold; WeChat refuses the whole message for one field that is too long or empty.
fn fitted(kind: Kind, text: &str) -> String {
    let (fits, most): (fn(char) -> bool, usize) = match kind {
        Kind::Thing => (|character| !character.is_control(), THING_CHARS),
        Kind::CharacterString => (|character| character.is_ascii_graphic(), STRING_CHARS),
        Kind::Amount | Kind::Time | Kind::Date | Kind::Phrase | Kind::Number => return text.to_owned(),
    };
    let clean: Vec<char> = text.chars().filter(|character| fits(*character)).collect();
    match clean.len() {
        0 => "-".to_owned(),
        length if length <= most => clean.into_iter().collect(),
        _ if kind == Kind::Thing => clean.into_iter().take(most - 1).chain(['…']).collect(),
        _ => clean.into_iter().take(most).collect(),
    }
}

/// What a message can tell.
#[derive(Clone, Debug)]
pub struct Facts {
    pub occasion: Occasion,
    pub order_no: String,
    /// The goods, the first line's name first.
    pub product: String,
    pub quantity: u64,
    pub amount: Fen,
    pub time: OffsetDateTime,
    pub company: String,
    pub tracking_no: String,
}

impl Facts {
    fn text(&self, kind: Kind, value: Value) -> String {
        match value {
            Value::OrderNo => self.order_no.clone(),
            Value::Product => self.product.clone(),
            Value::Quantity => self.quantity.to_string(),
            Value::Amount => format!("¥{}.{:02}", self.amount.0 / 100, self.amount.0 % 100),
            Value::Time => chinese_time(self.time, kind != Kind::Date),
            Value::Status => self.occasion.status().to_owned(),
            Value::Company => self.company.clone(),
            Value::TrackingNo => self.tracking_no.clone(),
        }
    }
}

/// `2026年11月22日 08:05`, or the day alone.
fn chinese_time(moment: OffsetDateTime, with_time: bool) -> String {
    let local = moment.to_offset(SHANGHAI);
    let day = format!("{}年{:02}月{:02}日", local.year(), u8::from(local.month()), local.day());
    if with_time { format!("{day} {:02}:{:02}", local.hour(), local.minute()) } else { day }
}

/// The shop's templates, and what a message opens.
#[derive(Debug)]
pub struct Messages {
    paid: Option<Template>,
    shipped: Option<Template>,
    refunded: Option<Template>,
    page: String,
    /// WeChat's `miniprogram_state`.
    pub state: String,
}

/// Longest page with its query, in bytes.
const MOST_OF_A_PAGE: usize = 1024;

impl Messages {
    /// Reads the settings.
    ///
    /// # Errors
    /// One that names the setting at fault.
    pub fn new(config: &MessagesConfig) -> anyhow::Result<Messages> {
        let read = |occasion: Occasion, id: &str, fields: &str| {
            Template::parse(id, fields).with_context(|| format!("messages.{}_fields", occasion.name()))
        };
        if !["developer", "trial", "formal"].contains(&config.state.as_str()) {
            bail!("messages.state is developer, trial or formal");
        }
        ensure!(
            !config.page.starts_with('/') && config.page.len() <= MOST_OF_A_PAGE && config.page.is_ascii(),
            "messages.page is a page of the mini-program, without a leading slash"
        );
        Ok(Messages {
            paid: read(Occasion::Paid, &config.paid_template, &config.paid_fields)?,
            shipped: read(Occasion::Shipped, &config.shipped_template, &config.shipped_fields)?,
            refunded: read(Occasion::Refunded, &config.refunded_template, &config.refunded_fields)?,
            page: config.page.clone(),
            state: config.state.clone(),
        })
    }

    /// The template of an occasion; `None` where the shop has none.
    pub fn template(&self, occasion: Occasion) -> Option<&Template> {
        match occasion {
            Occasion::Paid => self.paid.as_ref(),
            Occasion::Shipped => self.shipped.as_ref(),
            Occasion::Refunded => self.refunded.as_ref(),
        }
    }

    /// The page that a message about this order opens.
    pub fn page(&self, order: farmgate_shared::ids::OrderId) -> String {
        self.page.replace("{id}", &order.to_string())
    }

    /// What the mini-program is to ask its shoppers for.
    pub fn shown(&self) -> MessageTemplates {
        let id = |occasion| self.template(occasion).map(|template| template.id.clone());
        MessageTemplates {
            paid: id(Occasion::Paid),
            shipped: id(Occasion::Shipped),
            refunded: id(Occasion::Refunded),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn facts() -> Facts {
        Facts {
            occasion: Occasion::Shipped,
            order_no: "2026112200000012345678".into(),
            product: "红富士苹果（5斤装）等3件\n".into(),
            quantity: 3,
            amount: Fen(9_999_999_905),
            time: datetime!(2026-11-22 00:05:59 UTC),
            company: "顺丰速运".into(),
            tracking_no: String::new(),
        }
    }

    fn told(fields: &str) -> Json {
        Template::parse("T1", fields).unwrap().unwrap().data(&facts())
    }

    #[test]
    fn each_value_fits_its_field() {
        assert_eq!(
            told(
                "thing1=product, character_string2=order_no,amount3=amount,time4=time,date5=time,phrase6=status,number7=quantity"
            ),
            json!({
                "thing1": {"value": "红富士苹果（5斤装）等3件"},
                "character_string2": {"value": "2026112200000012345678"},
                "amount3": {"value": "¥99999999.05"},
                "time4": {"value": "2026年11月22日 08:05"},
                "date5": {"value": "2026年11月22日"},
                "phrase6": {"value": "已发货"},
                "number7": {"value": "3"},
            })
        );
        assert_eq!(told("character_string1=tracking_no"), json!({"character_string1": {"value": "-"}}));
    }

    #[test]
    fn what_is_too_long_is_cut() {
        assert_eq!(fitted(Kind::Thing, &"果".repeat(20)), "果".repeat(20));
        assert_eq!(fitted(Kind::Thing, &"果".repeat(21)), format!("{}…", "果".repeat(19)));
        assert_eq!(fitted(Kind::CharacterString, &"7".repeat(40)), "7".repeat(32));
        assert_eq!(fitted(Kind::CharacterString, "单号 7-1"), "7-1");
        assert_eq!(fitted(Kind::Thing, "\n"), "-");
    }

    #[test]
    fn a_wrong_setting_is_refused_at_the_start() {
        for fields in [
            "",
            "thing1",
            "thing=product",
            "1=product",
            "name1=product",
            "thing1=price",
            "amount1=product",
            "phrase1=company",
            "character_string1=product",
            "thing1=product, thing1=company",
        ] {
            assert!(Template::parse("T1", fields).is_err(), "{fields}");
        }
        assert!(Template::parse("T 1", "thing1=product").is_err());
        assert_eq!(Template::parse(" ", "nonsense").unwrap(), None, "what is off is not read");
    }
}
