//! Orders as they are asked for and shown.

use garde::Validate;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::addresses::Address;
use super::{Paging, optional_text, read_query};
use crate::ids::{AddressId, CouponId, OrderId, OrderNo, ProductId, SkuId};
use crate::money::Fen;
use crate::problem::FieldProblem;

/// Most of one SKU in an order.
pub const MAX_QUANTITY: u32 = 999;
/// Most different SKUs in an order.
pub const MAX_LINES: usize = 50;
/// Longest remark, in characters.
pub const MAX_REMARK_CHARS: usize = 200;

/// How many: 1 to [`MAX_QUANTITY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(minimum = 1, maximum = 999))]
pub struct Quantity(u32);

impl Quantity {
    /// `None` when it is out of range.
    #[must_use]
    pub fn new(quantity: u32) -> Option<Quantity> {
        (1..=MAX_QUANTITY).contains(&quantity).then_some(Quantity(quantity))
    }

    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        u32::try_from(number)
            .ok()
            .and_then(Quantity::new)
            .ok_or_else(|| de::Error::custom(format!("须为 1 到 {MAX_QUANTITY} 的整数")))
    }
}

/// Body of `POST /api/orders`: the seed's one product, or several SKUs in `items`; exactly one of the two. What
/// things cost is never read from here.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateOrder {
    /// A product; its default SKU is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub product_id: Option<ProductId>,
    /// With `product_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub quantity: Option<Quantity>,
    /// Instead of `product_id` and `quantity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(skip)]
    pub items: Option<Vec<OrderLine>>,
    #[garde(skip)]
    pub address_id: AddressId,
    /// One of the shopper's own coupons.
    #[serde(default)]
    #[garde(skip)]
    pub coupon_id: Option<CouponId>,
    /// A word to the packer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(custom(optional_text(MAX_REMARK_CHARS)))]
    pub remark: Option<String>,
}

/// One SKU and how many of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrderLine {
    pub sku_id: SkuId,
    pub quantity: Quantity,
}

/// What an order asks for, once its body made sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The default SKU of a product.
    Product(ProductId, Quantity),
    /// In SKU order, each SKU once.
    Skus(Vec<OrderLine>),
}

impl CreateOrder {
    /// Which goods are asked for. Lines that name the same SKU are added up.
    ///
    /// # Errors
    /// One [`FieldProblem`] a field that is missing, superfluous or out of range.
    pub fn wanted(&self) -> Result<Wanted, Vec<FieldProblem>> {
        let one = |field: &str, message: &str| Err(vec![FieldProblem::new(field, message)]);
        match (self.product_id, self.quantity, &self.items) {
            (Some(product), Some(quantity), None) => Ok(Wanted::Product(product, quantity)),
            (None, None, Some(lines)) => merge_lines(lines).map(Wanted::Skus),
            (None, None, None) => one("product_id", "缺少商品：请给出 product_id 与 quantity，或 items"),
            (Some(_), None, None) => one("quantity", "缺少数量"),
            (None, Some(_), None) => one("product_id", "缺少商品"),
            (_, _, Some(_)) => one("items", "items 不能与 product_id、quantity 同时使用"),
        }
    }
}

fn merge_lines(lines: &[OrderLine]) -> Result<Vec<OrderLine>, Vec<FieldProblem>> {
    if lines.is_empty() || lines.len() > MAX_LINES {
        return Err(vec![FieldProblem::new("items", format!("须有 1 到 {MAX_LINES} 种商品"))]);
    }
    let mut merged: Vec<OrderLine> = Vec::with_capacity(lines.len());
    let mut problems = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(known) = merged.iter_mut().find(|known| known.sku_id == line.sku_id) else {
            merged.push(*line);
            continue;
        };
        match Quantity::new(known.quantity.get() + line.quantity.get()) {
            Some(sum) => known.quantity = sum,
            None => problems.push(FieldProblem::new(
                format!("items[{index}].quantity"),
                format!("同一商品合计最多 {MAX_QUANTITY} 件"),
            )),
        }
    }
    merged.sort_unstable_by_key(|line| line.sku_id);
    if problems.is_empty() { Ok(merged) } else { Err(problems) }
}

/// Data of the reply to `POST /api/orders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedOrder {
    pub order_id: OrderId,
    pub order_no: OrderNo,
    /// Yuan: the goods.
    pub total_amount: Fen,
    /// Yuan: what the coupon took off. Replies that were stored for repetition before there were coupons lack it.
    #[serde(default)]
    pub discount_amount: Fen,
    /// Yuan: what is to be paid, goods − discount + delivery.
    pub actual_amount: Fen,
    /// Yuan.
    pub delivery_fee: Fen,
    /// Unpaid orders close after this moment.
    pub pay_deadline: String,
}

/// An order in a list and on its own page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Order {
    pub id: OrderId,
    pub order_no: OrderNo,
    /// 0 awaiting payment, 1 paid, 2 shipped, 3 completed, 4 cancelled, 5 refunding, 6 refunded.
    pub status: u8,
    pub status_text: String,
    pub items: Vec<OrderItem>,
    /// Yuan: the goods.
    pub total_amount: Fen,
    /// Yuan.
    pub discount_amount: Fen,
    /// Yuan.
    pub delivery_fee: Fen,
    /// Yuan: what is or was to be paid.
    pub actual_amount: Fen,
    /// As it was when the order was made.
    pub delivery_address: Address,
    pub remark: String,
    pub created_at: String,
    pub pay_deadline: String,
    pub payment_time: Option<String>,
    pub shipped_at: Option<String>,
    /// When the shopper confirmed it, or it completed by itself.
    pub completed_at: Option<String>,
}

/// One line of an order, as it was when the order was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrderItem {
    pub sku_id: SkuId,
    pub product_id: ProductId,
    pub name: String,
    pub image: String,
    pub specifications: String,
    /// Yuan for one.
    pub price: Fen,
    pub quantity: u32,
    /// Yuan for all of them.
    pub amount: Fen,
}

/// The query of `GET /api/orders`, in range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderQuery {
    pub paging: Paging,
    /// Only orders in this state.
    pub status: Option<u8>,
}

impl OrderQuery {
    /// Reads a query string (without `?`).
    ///
    /// # Errors
    /// One [`FieldProblem`] a bad, unknown or repeated parameter.
    pub fn parse(query: &str) -> Result<OrderQuery, Vec<FieldProblem>> {
        let mut parsed = OrderQuery::default();
        read_query(query, |name, value, problems| {
            if name != "status" {
                return parsed.paging.take(name, value, problems);
            }
            match value.as_bytes() {
                [] => {}
                [digit @ b'0'..=b'6'] => parsed.status = Some(digit - b'0'),
                _ => problems.push(FieldProblem::new(name, "须为 0 到 6 的整数")),
            }
            true
        })?;
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(json: &str) -> CreateOrder {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_seed_body_means_a_product() {
        let order = body(r#"{"product_id":1,"quantity":2,"address_id":1,"coupon_id":null}"#);
        assert_eq!(order.wanted(), Ok(Wanted::Product(ProductId(1), Quantity(2))));
    }

    #[test]
    fn equal_skus_are_added_up_and_sorted() {
        let order = body(
            r#"{"items":[{"sku_id":9,"quantity":1},{"sku_id":3,"quantity":2},{"sku_id":9,"quantity":4}],"address_id":1}"#,
        );
        let expected = vec![
            OrderLine { sku_id: SkuId(3), quantity: Quantity(2) },
            OrderLine { sku_id: SkuId(9), quantity: Quantity(5) },
        ];
        assert_eq!(order.wanted(), Ok(Wanted::Skus(expected)));
    }

    #[test]
    fn quantities_out_of_range_are_refused() {
        for quantity in ["0", "-1", "1000", "1000000000", "1.5", "\"2\"", "null"] {
            let json = format!(r#"{{"items":[{{"sku_id":1,"quantity":{quantity}}}],"address_id":1}}"#);
            assert!(serde_json::from_str::<CreateOrder>(&json).is_err(), "{quantity}");
        }
        let split =
            body(r#"{"items":[{"sku_id":1,"quantity":999},{"sku_id":1,"quantity":1}],"address_id":1}"#);
        assert_eq!(split.wanted().unwrap_err()[0].field, "items[1].quantity");
    }

    #[test]
    fn half_or_double_orders_name_the_field() {
        let field = |json: &str| body(json).wanted().unwrap_err()[0].field.clone();
        assert_eq!(field(r#"{"address_id":1}"#), "product_id");
        assert_eq!(field(r#"{"product_id":1,"address_id":1}"#), "quantity");
        assert_eq!(field(r#"{"quantity":1,"address_id":1}"#), "product_id");
        assert_eq!(field(r#"{"items":[],"address_id":1}"#), "items");
        assert_eq!(field(r#"{"product_id":1,"quantity":1,"items":[],"address_id":1}"#), "items");
    }

    #[test]
    fn the_list_can_be_narrowed_to_one_state() {
        assert_eq!(OrderQuery::parse("status=0&page=2").unwrap().status, Some(0));
        assert!(OrderQuery::parse("status=7").is_err());
        assert!(OrderQuery::parse("status=-1").is_err());
    }
}
