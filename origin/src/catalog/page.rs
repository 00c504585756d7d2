//! A page of the catalogue as bytes, with the places of the stock numbers in it. Promises that the bytes are made anew
//! only when one of these numbers changed, and that a reader is never given numbers older than those it could have read.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Bytes;
use serde::Serialize;

use super::levels::Levels;

/// How a stock number begins in JSON. Inside a text the quotation marks would be escaped, so this is always a field.
const FIELD: &[u8] = b"\"stock\":";

/// One page.
#[derive(Debug)]
pub struct Page {
    /// The SKUs that each stock number is the sum of, in the order of the page.
    counted: Box<[Range<u32>]>,
    body: ArcSwap<Body>,
}

#[derive(Clone, Debug)]
struct Body {
    /// [`Levels::changes`] when the numbers were looked at last.
    looked: u64,
    bytes: Bytes,
    /// Where each number stands.
    places: Arc<[Range<u32>]>,
    numbers: Arc<[i64]>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("a page cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("a page shows {places} stock numbers and {counted} are known")]
    Stock { places: usize, counted: usize },
    #[error("a page is too long")]
    TooLong,
}

impl Page {
    /// `reply` has stock 0 wherever a number belongs.
    pub fn new(reply: &impl Serialize, counted: Vec<Range<u32>>) -> Result<Page, PageError> {
        let bytes = serde_json::to_vec(reply)?;
        let places = places(&bytes)?;
        if places.len() != counted.len() {
            return Err(PageError::Stock { places: places.len(), counted: counted.len() });
        }
        let numbers = vec![0; counted.len()].into();
        let body = Body { looked: 0, bytes: bytes.into(), places: places.into(), numbers };
        Ok(Page { counted: counted.into(), body: ArcSwap::from_pointee(body) })
    }

    /// The bytes with the numbers of now.
    pub fn body(&self, levels: &Levels) -> Bytes {
        let changes = levels.changes();
        let body = self.body.load();
        if body.looked >= changes || self.counted.is_empty() {
            return body.bytes.clone();
        }
        let numbers: Arc<[i64]> = self.counted.iter().map(|skus| levels.sum(skus)).collect();
        let mut fresh = if numbers == body.numbers { Body::clone(&body) } else { body.with(numbers) };
        fresh.looked = changes;
        let bytes = fresh.bytes.clone();
        let fresh = Arc::new(fresh);
        // A reader that was overtaken must not put older numbers in the place of newer ones.
        self.body.rcu(|kept| if kept.looked >= changes { kept.clone() } else { fresh.clone() });
        bytes
    }

    /// Bytes of memory.
    pub fn weight(&self) -> usize {
        let of_a_number = size_of::<Range<u32>>() * 2 + size_of::<i64>();
        size_of::<Page>()
            + size_of::<Body>()
            + self.body.load().bytes.len()
            + self.counted.len() * of_a_number
    }
}

impl Body {
    fn with(&self, numbers: Arc<[i64]>) -> Body {
        let mut bytes = Vec::with_capacity(self.bytes.len() + numbers.len() * 2);
        let mut places = Vec::with_capacity(numbers.len());
        let mut copied = 0;
        for (place, number) in self.places.iter().zip(&*numbers) {
            bytes.extend_from_slice(self.bytes.get(copied..place.start as usize).unwrap_or_default());
            let start = bytes.len();
            bytes.extend_from_slice(number.to_string().as_bytes());
            // A page that is gigabytes long was refused when it was made.
            let short = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
            places.push(short(start)..short(bytes.len()));
            copied = place.end as usize;
        }
        bytes.extend_from_slice(self.bytes.get(copied..).unwrap_or_default());
        Body { looked: self.looked, bytes: bytes.into(), places: places.into(), numbers }
    }
}

fn places(bytes: &[u8]) -> Result<Vec<Range<u32>>, PageError> {
    // Room for the numbers to grow.
    let short = |at: usize| u32::try_from(at).ok().filter(|at| *at < u32::MAX / 2).ok_or(PageError::TooLong);
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(found) =
        bytes.get(at..).and_then(|rest| rest.windows(FIELD.len()).position(|part| part == FIELD))
    {
        let start = at + found + FIELD.len();
        let digits =
            bytes.get(start..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).count();
        at = start + digits;
        places.push(short(start)?..short(at)?);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use farmgate_shared::api::Reply;
    use serde_json::{Value, json};

    use super::*;

    fn shown(page: &Page, levels: &Levels) -> Value {
        serde_json::from_slice(&page.body(levels)).unwrap()
    }

    #[test]
    fn numbers_are_put_where_they_belong_and_nothing_else_changes() {
        let tricky = json!({"name": "\"stock\":7 的\\", "skus": [{"id": 1, "stock": 0}, {"id": 2, "stock": 0}], "stock": 0});
        let page = Page::new(&Reply::new("成功", &tricky), vec![0..1, 1..2, 0..2]).unwrap();
        let levels = Levels::new(2);
        assert_eq!(shown(&page, &levels)["data"], tricky);
        for (first, second) in [(5, 0), (123_456, 7), (0, 0), (10, 2_147_483_647)] {
            levels.set([(0, first), (1, second)]);
            let mut expected = tricky.clone();
            expected["skus"][0]["stock"] = first.into();
            expected["skus"][1]["stock"] = second.into();
            expected["stock"] = (i64::from(first) + i64::from(second)).into();
            assert_eq!(shown(&page, &levels)["data"], expected);
        }
    }

    #[test]
    fn bytes_are_made_anew_only_when_a_number_on_them_changed() {
        let page = Page::new(&json!([{"stock": 0}, {"stock": 0}]), vec![0..1, 0..1]).unwrap();
        let levels = Levels::new(2);
        levels.set([(0, 5)]);
        let first = page.body(&levels);
        levels.set([(1, 9)]);
        assert_eq!(page.body(&levels).as_ptr(), first.as_ptr(), "another's number");
        levels.set([(0, 5)]);
        assert_eq!(page.body(&levels).as_ptr(), first.as_ptr(), "the same number");
        levels.set([(0, 4)]);
        assert_eq!(&page.body(&levels)[..], b"[{\"stock\":4},{\"stock\":4}]");
        assert_eq!(&first[..], b"[{\"stock\":5},{\"stock\":5}]", "what was given stays as it was");
    }

    #[test]
    fn a_page_whose_numbers_are_not_known_is_no_page() {
        assert!(matches!(
            Page::new(&json!({"stock": 0}), vec![]),
            Err(PageError::Stock { places: 1, counted: 0 })
        ));
    }
}
