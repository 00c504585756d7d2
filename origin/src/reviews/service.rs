//! Use cases of reviews.

use farmgate_shared::api::orders::Order;
use farmgate_shared::api::reviews::{NewReview, NewReviews, OwnReview, ProductReview};
use farmgate_shared::api::{Page, Paging};
use farmgate_shared::ids::{OrderId, ProductId, ReviewId, SkuId, UserId};
use farmgate_shared::problem::{FieldProblem, Problem};
use sqlx::MySqlPool;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::model::{Status, author};
use super::store;
pub use super::store::ReviewRow;
use crate::app::App;
use crate::clock::shanghai_rfc3339;
use crate::db::{Retryable, TransactionError, is_duplicate};
use crate::error::ApiError;
use crate::idempotency::{Earlier, IdempotencyError, Keyed, Start};
use crate::orders::model::Status as OrderStatus;
use crate::orders::service::OrderError;
use crate::outbox::model::{EventKind, NewEvent};
use crate::{orders, outbox, pictures, users};

/// Why a review was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    #[error("the order is not completed")]
    NotCompleted,
    #[error("the line was reviewed before")]
    Again,
    #[error("the review is not of this order's lines, or shows foreign pictures")]
    Fields(Vec<FieldProblem>),
    #[error("there is no such product on sale")]
    NoProduct,
    #[error("the review in the database has the state {0}")]
    UnknownStatus(u8),
    #[error(transparent)]
    Order(#[from] OrderError),
    #[error(transparent)]
    Idempotency(#[from] IdempotencyError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl Retryable for ReviewError {
    fn database(&self) -> Option<&sqlx::Error> {
        match self {
            ReviewError::Database(error) | ReviewError::Idempotency(IdempotencyError::Database(error)) => {
                Some(error)
            }
            _ => None,
        }
    }
}

impl From<ReviewError> for ApiError {
    fn from(error: ReviewError) -> ApiError {
        match error {
            ReviewError::NotCompleted => Problem::OrderStateConflict.into(),
            ReviewError::Again => Problem::AlreadyReviewed.into(),
            ReviewError::Fields(problems) => ApiError::fields(problems),
            ReviewError::NoProduct => Problem::ProductNotFound.into(),
            ReviewError::Order(error) => error.into(),
            ReviewError::Idempotency(error) => error.into(),
            ReviewError::Database(error) => error.into(),
            ReviewError::UnknownStatus(_) => ApiError::caused(Problem::Internal, error),
        }
    }
}

/// Reviews lines of the shopper's own completed order: all that are named, or none.
///
/// # Errors
/// [`ReviewError`]; another shopper's order is not found.
pub async fn write(
    app: &App,
    user: UserId,
    order: OrderId,
    key: Option<String>,
    input: NewReviews,
) -> Result<Vec<OwnReview>, ReviewError> {
    let now = app.clock.now();
    let operation = format!("POST /api/orders/{order}/reviews");
    let keyed = Keyed::new(user, key, &operation, &input, app.config.http.double_tap())?;
    if let Earlier::Reply(written) = keyed.earlier(&app.reads.keys).await? {
        return Ok(written);
    }
    let order = orders::service::get(app, user, order).await?;
    if order.status != OrderStatus::Completed.number() {
        return Err(ReviewError::NotCompleted);
    }
    let rows = rows_of(user, &order, &input, &app.config.http.public_url, now)?;
    let event = NewEvent { kind: EventKind::ReviewWritten, order: order.id };
    app.db
        .transaction("write_reviews", move |connection| {
            let (keyed, mut rows) = (keyed.clone(), rows.clone());
            Box::pin(async move {
                if let Start::Done(written) = keyed.start(connection).await? {
                    return Ok(written);
                }
                for row in &mut rows {
                    let inserted = store::insert(connection, row).await;
                    row.id = inserted.map_err(|error| match is_duplicate(&error) {
                        true => ReviewError::Again,
                        false => error.into(),
                    })?;
                }
                if rows.iter().any(|row| row.status == Status::InCheck.number()) {
                    outbox::service::record(connection, &[event]).await?;
                }
                let written = rows.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
                keyed.finish(connection, &written).await?;
                Ok(written)
            })
        })
        .await
        .map_err(TransactionError::flatten)
}

/// The rows to write, or what is wrong with which review. `own` is in front of the addresses of the shop's own pictures:
/// what stands elsewhere could be exchanged after it was looked at.
fn rows_of(
    user: UserId,
    order: &Order,
    input: &NewReviews,
    own: &str,
    now: OffsetDateTime,
) -> Result<Vec<ReviewRow>, ReviewError> {
    let mut problems = Vec::new();
    let mut rows = Vec::with_capacity(input.reviews.len());
    for (at, review) in input.reviews.iter().enumerate() {
        if !review.images.iter().all(|image| pictures::is_own(own, image)) {
            problems.push(FieldProblem::new(format!("reviews[{at}].images"), "须为本店上传的图片"));
        }
        // A line that comes twice is a mistake of the request, not a review that was written before.
        if rows.iter().any(|row: &ReviewRow| row.sku_id == review.sku_id.0) {
            problems.push(FieldProblem::new(format!("reviews[{at}].sku_id"), "同一商品只能评价一次"));
        }
        match order.items.iter().find(|item| item.sku_id == review.sku_id) {
            Some(item) => {
                rows.push(row_of(user, order, (item.product_id, &item.specifications), review, input, now));
            }
            None => problems.push(FieldProblem::new(format!("reviews[{at}].sku_id"), "订单中没有该商品")),
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(ReviewError::Fields(problems)) }
}

fn row_of(
    user: UserId,
    order: &Order,
    (product, specifications): (ProductId, &str),
    review: &NewReview,
    input: &NewReviews,
    now: OffsetDateTime,
) -> ReviewRow {
    let content = review.content.trim();
    ReviewRow {
        id: 0,
        order_id: order.id.0,
        sku_id: review.sku_id.0,
        product_id: product.0,
        user_id: user.0,
        specifications: specifications.to_owned(),
        rating: review.rating,
        content: content.to_owned(),
        images: Json(review.images.clone()),
        is_anonymous: input.anonymous,
        status: Status::at_first(content, review.images.len()).number(),
        created_at: now,
    }
}

/// The shopper's own reviews of an order, wherever they stand.
///
/// # Errors
/// Another shopper's order is not found.
pub async fn of_order(app: &App, user: UserId, order: OrderId) -> Result<Vec<OwnReview>, ReviewError> {
    let order = orders::service::get(app, user, order).await?;
    store::of_order(app.db.pool(), user, order.id).await?.into_iter().map(own).collect()
}

/// The shown reviews of a product, the newest first.
///
/// # Errors
/// [`ReviewError::NoProduct`], or MySQL being away.
pub async fn of_product(
    app: &App,
    product: ProductId,
    paging: Paging,
) -> Result<Page<ProductReview>, ReviewError> {
    if app.catalog.snapshot().row_of(product).is_none() {
        return Err(ReviewError::NoProduct);
    }
    let (pool, own_pictures) = (app.db.pool(), app.config.http.public_url.as_str());
    let total = u64::try_from(store::count_shown(pool, product).await?).unwrap_or(0);
    // Beyond the last page there is nothing to look for.
    let rows =
        if paging.offset() < total { store::list_shown(pool, product, paging).await? } else { Vec::new() };
    let authors = rows.iter().map(|row| UserId(row.user_id)).collect();
    let faces = users::service::faces(pool, authors).await?;
    let list = rows.into_iter().map(|row| {
        let face = faces.get(&row.user_id);
        let nickname = face.map(|face| face.nickname.as_str()).unwrap_or_default();
        // A picture elsewhere may be exchanged at any time, and tells its host who reads.
        let avatar = face.map(|face| face.avatar.clone());
        let avatar = avatar.filter(|avatar| !row.is_anonymous && pictures::is_own(own_pictures, avatar));
        ProductReview {
            id: ReviewId(row.id),
            nickname: author(nickname, row.is_anonymous),
            avatar: avatar.unwrap_or_default(),
            rating: row.rating,
            content: row.content,
            images: row.images.0,
            specifications: row.specifications,
            created_at: shanghai_rfc3339(row.created_at),
        }
    });
    Ok(Page { list: list.collect(), total, page: paging.page, size: paging.size })
}

/// Reviews that stand so, the oldest first, at most so many: for the shop itself.
///
/// # Errors
/// When MySQL is away.
pub async fn list(pool: &MySqlPool, status: Status, most: u32) -> Result<Vec<ReviewRow>, sqlx::Error> {
    store::list_by_status(pool, status, most).await
}

/// One review, whoever's it is: for the shop itself.
///
/// # Errors
/// When MySQL is away.
pub async fn find(pool: &MySqlPool, id: i64) -> Result<Option<ReviewRow>, sqlx::Error> {
    store::find(pool, id).await
}

/// A person's word on a review, which stands over WeChat's. False when there is no such review.
///
/// # Errors
/// When MySQL is away.
pub async fn decide(pool: &MySqlPool, id: i64, is_shown: bool) -> Result<bool, sqlx::Error> {
    store::decide(pool, id, if is_shown { Status::Shown } else { Status::Refused }).await
}

fn own(row: ReviewRow) -> Result<OwnReview, ReviewError> {
    let status = Status::from_number(row.status).ok_or(ReviewError::UnknownStatus(row.status))?;
    Ok(OwnReview {
        id: ReviewId(row.id),
        sku_id: SkuId(row.sku_id),
        product_id: ProductId(row.product_id),
        rating: row.rating,
        content: row.content,
        images: row.images.0,
        anonymous: row.is_anonymous,
        status: status.number(),
        status_text: status.text().to_owned(),
        created_at: shanghai_rfc3339(row.created_at),
    })
}
