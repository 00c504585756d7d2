//! Daily reconciliation with WeChat's bill. Promises the shopkeeper that every payment and refund of a day stands both in
//! WeChat's bill and in our books, with the same amount and the same outcome, or that the difference is on record until
//! somebody has dealt with it. It changes nothing but its own tables.

mod books_store;
mod compare;
mod csv;
pub mod day;
mod model;
pub mod operator;
pub mod service;
mod store;
