//! Who else can read or write the files that settings name.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// What other users than the owner can do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    /// Nothing that matters. The gateway's own group may read: so a file of root's can be
    /// given to the gateway.
    Nothing,
    /// Read it.
    Read,
    /// Write it.
    Write,
}

impl Others {
    /// By the mode of a file, for a gateway of the group `own_group`.
    pub(super) fn of(metadata: &Metadata, own_group: u32) -> Self {
        Self::by_mode(metadata.mode(), metadata.gid() == own_group)
    }

    fn by_mode(mode: u32, is_own_group: bool) -> Self {
        if mode & 0o022 != 0 {
            Self::Write
        } else if mode & 0o004 != 0 || (mode & 0o040 != 0 && !is_own_group) {
            Self::Read
        } else {
            Self::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_can_do_what_by_the_mode() {
        for (mode, is_own_group, others) in [
            (0o600, false, Others::Nothing),
            (0o400, true, Others::Nothing),
            (0o640, true, Others::Nothing),
            (0o640, false, Others::Read),
            (0o644, true, Others::Read),
            (0o604, true, Others::Read),
            (0o660, true, Others::Write),
            (0o602, true, Others::Write),
            (0o666, false, Others::Write),
        ] {
            assert_eq!(Others::by_mode(mode, is_own_group), others, "{mode:o}");
        }
    }
}
