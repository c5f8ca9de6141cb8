//! An answer that was not read to its end, from a real server.

use testkit::local::MariaDb;

use crate::database::Database;
use crate::database::connection::{SqlError, Timeouts};

#[test]
fn is_not_taken_for_that_of_the_next_statement() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let database = Database::new(server.url("efgs").parse().unwrap());
    let many = "SELECT seq FROM seq_1_to_100000";
    // Packets are numbered by an octet: where the next one of the rest has the number 1, it could be the
    // answer to the next statement, and a row begins as an OK does.
    for read in 250..260 {
        let mut connection = database.connect(Timeouts::Short).unwrap();
        let mut rows = 0;
        let stopped = connection.each(many, &[], &mut |_| {
            rows += 1;
            match rows == read {
                true => Err(SqlError::Lost("no more of this".into())),
                false => Ok(()),
            }
        });
        assert!(matches!(stopped, Err(SqlError::Lost(_))), "{stopped:?}");
        let next = connection.script("COMMIT");
        assert!(matches!(next, Err(SqlError::Lost(_))), "{read}: {next:?}");
    }
    // What only one row is to blame for leaves the connection as it was.
    let mut connection = database.connect(Timeouts::Short).unwrap();
    let refused = connection.each(many, &[], &mut |_| Err(SqlError::Refused("a value".into())));
    assert!(matches!(refused, Err(SqlError::Refused(_))), "{refused:?}");
    connection.script("COMMIT").unwrap();
}
