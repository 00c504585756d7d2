//! The ways in which an order moves stock between the columns, stated once: the movements and the guarded updates of the rows
//! are written from here, and `orders/model.rs` says which change of an order's state is which.

/// What an order does to the stock of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// It was made and awaits payment.
    Hold,
    /// It was paid.
    Sell,
    /// It was cancelled unpaid.
    Release,
    /// It was refunded before it was shipped.
    TakeBack,
}

/// By how much each column of a row of `stock` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub available: i64,
    pub held: i64,
    pub sold: i64,
}

impl Shift {
    /// What `stock_movements.reason` says.
    pub const fn reason(self) -> &'static str {
        match self {
            Shift::Hold => "held",
            Shift::Sell => "sold",
            Shift::Release => "released",
            Shift::TakeBack => "returned",
        }
    }

    /// The change for so many.
    pub fn of(self, quantity: u32) -> Change {
        let quantity = i64::from(quantity);
        match self {
            Shift::Hold => Change { available: -quantity, held: quantity, sold: 0 },
            Shift::Sell => Change { available: 0, held: -quantity, sold: quantity },
            Shift::Release => Change { available: quantity, held: -quantity, sold: 0 },
            Shift::TakeBack => Change { available: quantity, held: 0, sold: -quantity },
        }
    }
}
