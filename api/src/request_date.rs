//! Dates in request paths.

use engine::domain::Day;

use crate::response::RequestError;

/// The date in a path.
///
/// # Errors
/// [`RequestError::InvalidDate`], with at most 32 characters of what was sent.
pub(crate) fn read_day(text: &str) -> Result<Day, RequestError> {
    let shortened = || text.chars().take(32).collect::<String>().into();
    Day::parse_iso(text).map_err(|_| RequestError::InvalidDate(shortened()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortens_an_invalid_date_that_it_repeats() {
        assert!(read_day("2020-10-06").is_ok());
        let long = "é".repeat(500);
        let expected = RequestError::InvalidDate("é".repeat(32).into());
        assert_eq!(read_day(&long), Err(expected));
    }
}
