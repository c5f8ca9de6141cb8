//! What a driver's error means.

use mysql::Error;

use super::super::connection::{Source, SqlError, UniqueIndex};
use super::super::server_message::ServerMessage;

/// Classifies a driver's error: conflict, lost connection or permanent. Codes and SQL states are from the servers' error
/// references; those that MySQL and MariaDB share mean the same.
pub(super) fn classify_error(error: Error) -> SqlError {
    const DUPLICATE_ENTRY: u16 = 1062;
    const PACKET_TOO_LARGE: u16 = 1153;
    // Lock wait timeout, record changed since last read, query killed, must be prepared again.
    const CONFLICTS: [u16; 4] = [1205, 1020, 1317, 1615];
    // Node not ready, shutting down, error during commit, network errors, read-only after a change
    // of the primary, connection killed, group replication hook, idle for too long.
    const LOST: [u16; 13] = [
        1047, 1053, 1152, 1158, 1159, 1160, 1161, 1180, 1290, 1836, 1927, 3100, 4031,
    ];
    let class = match &error {
        Error::MySqlError(server) => match (server.code, server.state.as_str()) {
            (DUPLICATE_ENTRY, _) => return SqlError::Duplicate(index_named_in(&server.message)),
            (PACKET_TOO_LARGE, _) => SqlError::Refused,
            (code, _) if LOST.contains(&code) => SqlError::Lost,
            (code, _) if CONFLICTS.contains(&code) => SqlError::Conflict,
            // Deadlock and the certification conflicts of clusters: transaction rollback.
            (_, state) if state.starts_with("40") => SqlError::Conflict,
            (_, state) if state.starts_with("08") => SqlError::Lost,
            _ => SqlError::Refused,
        },
        Error::IoError(_) | Error::CodecError(_) | Error::DriverError(_) | Error::TlsError(_) => {
            SqlError::Lost
        }
        _ => SqlError::Refused,
    };
    class(plain(error))
}

/// The error inside: the driver's own text wraps it in the names of its Rust types. Most of it is the
/// server's.
fn plain(error: Error) -> Source {
    let text = match error {
        Error::MySqlError(server) => server.to_string(),
        Error::DriverError(driver) => driver.to_string(),
        Error::IoError(io) => io.to_string(),
        Error::CodecError(codec) => codec.to_string(),
        Error::UrlError(url) => url.to_string(),
        other => other.to_string(),
    };
    ServerMessage::new(&text).into()
}

/// The message ends in `for key 'NAME'`; MySQL from 8.0.19 on writes `for key 'TABLE.NAME'`.
fn index_named_in(message: &str) -> UniqueIndex {
    let name = message
        .rsplit("for key '")
        .next()
        .unwrap_or("")
        .trim_end_matches('\'');
    match name.rsplit('.').next() {
        Some("PRIMARY") => UniqueIndex::Primary,
        Some("upload_log_tag") => UniqueIndex::UploadTag,
        _ => UniqueIndex::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_indexes_by_the_name_in_the_message() {
        for (message, index) in [
            (
                "Duplicate entry '17' for key 'PRIMARY'",
                UniqueIndex::Primary,
            ),
            (
                "Duplicate entry '17' for key 'upload_log.PRIMARY'",
                UniqueIndex::Primary,
            ),
            (
                "Duplicate entry 'DE-PRIMARY' for key 'upload_log_tag'",
                UniqueIndex::UploadTag,
            ),
            (
                "Duplicate entry 'DE-x' for key 'upload_log.upload_log_tag'",
                UniqueIndex::UploadTag,
            ),
            (
                "Duplicate entry 'for key 'PRIMARY'' for key 'upload_log_tag'",
                UniqueIndex::UploadTag,
            ),
            (
                "Duplicate entry '1' for key 'download_batch_tag'",
                UniqueIndex::Other,
            ),
        ] {
            assert_eq!(index_named_in(message), index, "{message}");
        }
    }
}
