//! What runs measured, as one page with plots that needs nothing from anywhere: made from the files
//! of results alone, one run or several side by side.

pub mod chart;
mod curves;
#[cfg(test)]
pub(crate) mod example;
mod named;
pub mod page;
mod report;
mod tables;
#[cfg(test)]
mod tests;

pub use self::named::{Named, named};
pub use self::report::page;
