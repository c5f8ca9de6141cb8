//! The measurements of one or several runs as one self-contained page with plots, made only from
//! the results files.

pub mod axis;
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
