//! §16: callbacks. Rows go here, or name their tests elsewhere with [`super::elsewhere`].

use super::{Row, Section};
use crate::World;

pub(super) const SECTION: Section = Section {
    name: "s16_callbacks",
    heading: "§16 Callbacks",
    rows: ROWS,
    prepare: World::new,
};

const ROWS: &[Row] = &[];
