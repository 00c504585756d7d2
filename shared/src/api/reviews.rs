//! Reviews of what was bought.

use garde::Validate;
use serde::{Deserialize, Serialize};

use super::{Paging, read_query, text};
use crate::ids::{ProductId, ReviewId, SkuId};
use crate::problem::FieldProblem;

/// Body of `POST /api/orders/{id}/reviews`.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewReviews {
    /// Of some lines of the order, each once.
    #[garde(custom(one_to_a_hundred), dive)]
    pub reviews: Vec<NewReview>,
    /// Shown without the shopper's name and picture.
    #[serde(default)]
    #[garde(skip)]
    pub anonymous: bool,
}

/// What is said of one line.
#[derive(Clone, Debug, Deserialize, Serialize, Validate)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewReview {
    #[garde(skip)]
    pub sku_id: SkuId,
    /// 1 to 5.
    #[garde(custom(stars))]
    pub rating: u8,
    /// At most 500 characters; may be empty.
    #[serde(default)]
    #[garde(custom(text(0, 500)))]
    pub content: String,
    /// At most 6 pictures of the shop's own storage.
    #[serde(default)]
    #[garde(custom(pictures))]
    pub images: Vec<String>,
}

fn one_to_a_hundred(reviews: &[NewReview], (): &()) -> garde::Result {
    if (1..=100).contains(&reviews.len()) {
        Ok(())
    } else {
        Err(garde::Error::new("须为 1 到 100 条评价"))
    }
}

fn stars(rating: &u8, (): &()) -> garde::Result {
    if (1..=5).contains(rating) { Ok(()) } else { Err(garde::Error::new("须为 1 到 5 的整数")) }
}

fn pictures(images: &[String], (): &()) -> garde::Result {
    if images.len() > 6 || images.iter().any(|image| image.chars().count() > 500) {
        return Err(garde::Error::new("最多 6 张图片"));
    }
    Ok(())
}

/// A review as its author sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OwnReview {
    pub id: ReviewId,
    pub sku_id: SkuId,
    pub product_id: ProductId,
    pub rating: u8,
    pub content: String,
    pub images: Vec<String>,
    pub anonymous: bool,
    /// 0 in check, 1 shown, 2 refused, 3 being looked at by a person.
    pub status: u8,
    pub status_text: String,
    pub created_at: String,
}

/// A review on a product's page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProductReview {
    pub id: ReviewId,
    /// Masked where its author wished so.
    pub nickname: String,
    /// Empty where there is none to show.
    pub avatar: String,
    pub rating: u8,
    pub content: String,
    pub images: Vec<String>,
    pub specifications: String,
    pub created_at: String,
}

/// The query of `GET /api/products/{id}/reviews`, in range.
///
/// # Errors
/// One [`FieldProblem`] a bad, unknown or repeated parameter.
pub fn parse_reviews_query(query: &str) -> Result<Paging, Vec<FieldProblem>> {
    let mut paging = Paging::default();
    read_query(query, |name, value, problems| paging.take(name, value, problems))?;
    Ok(paging)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_field_is_named_at_once() {
        let json = r#"{"reviews":[{"sku_id":1,"rating":6,"images":["1","2","3","4","5","6","7"]},{"sku_id":2,"rating":5}]}"#;
        let mut input: NewReviews = serde_json::from_str(json).unwrap();
        input.reviews[1].content = "字".repeat(501);
        let report = input.validate().unwrap_err();
        let fields: Vec<String> = report.iter().map(|(path, _)| path.to_string()).collect();
        assert_eq!(fields, ["reviews[0].images", "reviews[0].rating", "reviews[1].content"]);
        input.reviews.clear();
        assert!(input.validate().is_err());
        assert_eq!(parse_reviews_query("sort=new").unwrap_err()[0].field, "sort");
    }
}
