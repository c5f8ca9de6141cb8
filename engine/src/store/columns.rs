//! Columns of our tables as domain values.

use crate::database::Row;
use crate::domain::Country;

pub(super) fn country(row: &mut Row, column: usize) -> Country {
    Country::parse(&row.take_text(column)).expect("the writer writes countries")
}

pub(super) fn number_32(number: u64) -> u32 {
    u32::try_from(number).expect("the writer writes 32 bits")
}
