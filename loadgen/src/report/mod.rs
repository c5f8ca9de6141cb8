//! What runs measured, as one page with plots that needs nothing from anywhere: made from the files
//! of results alone, one run or several side by side.

pub mod chart;
mod curves;
#[cfg(test)]
pub(crate) mod example;
mod layout;
mod named;
pub mod page;
mod tables;
#[cfg(test)]
mod tests;

pub use self::layout::page;
pub use self::named::{Named, named};
