//! The wire, a file a domain. Field names and shapes are a contract with mini-programs that are already on phones:
//! fields are added, never renamed. Times are RFC 3339 in Shanghai's offset, money is yuan (see [`crate::money`]).

pub mod addresses;
pub mod catalog;
pub mod coupons;
pub mod messages;
pub mod orders;
pub mod payments;
pub mod reviews;
pub mod shipments;
pub mod users;

use serde::{Deserialize, Serialize};

use crate::problem::FieldProblem;

/// The body of every successful reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Reply<T> {
    /// Always 200.
    pub code: u16,
    /// Chinese, can be shown to a shopper.
    pub message: String,
    pub data: T,
}

impl<T> Reply<T> {
    pub fn new(message: &str, data: T) -> Reply<T> {
        Reply { code: 200, message: message.to_owned(), data }
    }
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    pub list: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
    /// From 1.
    pub page: u32,
    /// Entries a page, at most [`MAX_PAGE_SIZE`].
    pub size: u32,
}

/// Entries a page when the client does not say.
pub const DEFAULT_PAGE_SIZE: u32 = 20;
/// Most entries a page.
pub const MAX_PAGE_SIZE: u32 = 100;
/// Last page that can be asked for: `page * size` stays far from overflow.
pub const MAX_PAGE: u32 = 1_000_000;

/// Which page of a list is wanted. Always in range once it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Paging {
    pub page: u32,
    pub size: u32,
}

impl Default for Paging {
    fn default() -> Self {
        Paging { page: 1, size: DEFAULT_PAGE_SIZE }
    }
}

impl Paging {
    /// How many entries come before this page.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.page - 1) * u64::from(self.size)
    }

    /// Takes `page` or `size` from a query's pair; false when the name is another's.
    pub(crate) fn take(&mut self, name: &str, value: &str, problems: &mut Vec<FieldProblem>) -> bool {
        let (target, most) = match name {
            "page" => (&mut self.page, MAX_PAGE),
            "size" => (&mut self.size, MAX_PAGE_SIZE),
            _ => return false,
        };
        match whole_number(value) {
            Some(number) if (1..=most).contains(&number) => *target = number,
            _ => problems.push(FieldProblem::new(name, format!("须为 1 到 {most} 的整数"))),
        }
        true
    }
}

/// Plain digits only: no sign, no space, no exponent.
fn whole_number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// The pairs of a query string, percent-decoded.
fn query_pairs(query: &str) -> Result<Vec<(String, String)>, Vec<FieldProblem>> {
    serde_urlencoded::from_str(query).map_err(|_| vec![FieldProblem::new("query", "无法解析的查询参数")])
}

/// Walks a query's pairs through `take`, which says whether it knows the name; unknown and repeated names are
/// problems that name the field.
fn read_query(
    query: &str,
    mut take: impl FnMut(&str, &str, &mut Vec<FieldProblem>) -> bool,
) -> Result<(), Vec<FieldProblem>> {
    let mut problems = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (name, value) in query_pairs(query)? {
        if seen.contains(&name) {
            problems.push(FieldProblem::new(name, "参数重复"));
            continue;
        }
        if !take(&name, &value, &mut problems) {
            problems.push(FieldProblem::new(&*name, "未知参数"));
        }
        seen.push(name);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// A garde rule: after trimming, `least` to `most` characters and none of them a control character.
pub(crate) fn text(least: usize, most: usize) -> impl FnOnce(&str, &()) -> garde::Result {
    move |value, ()| {
        let length = value.trim().chars().count();
        if length < least || length > most {
            return Err(garde::Error::new(format!("长度须为 {least} 到 {most} 个字")));
        }
        if value.chars().any(|c| c.is_control() && c != '\n') {
            return Err(garde::Error::new("含有不可用的字符"));
        }
        Ok(())
    }
}

/// [`text`] for a field that may be absent.
pub(crate) fn optional_text(most: usize) -> impl FnOnce(&Option<String>, &()) -> garde::Result {
    move |value, ()| value.as_deref().map_or(Ok(()), |value| text(0, most)(value, &()))
}
