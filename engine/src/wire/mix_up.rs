//! Bodies in the one format that were sent as the other.

use super::error::{BodyError, MalformedBatch};
use super::protobuf::KeyMessages;
use crate::domain::Format;

/// Names the mix-up, if that is why a body cannot be read. Looks at one key of it, at the most.
pub(crate) fn name_mix_up(error: BodyError, body: &[u8], sent_as: Format) -> BodyError {
    let BodyError::Malformed(_) = error else {
        return error;
    };
    match sent_as {
        // In protobuf, a brace would begin a group, which nobody sends.
        Format::Protobuf if body.trim_ascii_start().starts_with(b"{") => {
            MalformedBatch::JsonAsProtobuf.into()
        }
        Format::Json if is_protobuf(body) => MalformedBatch::ProtobufAsJson.into(),
        Format::Protobuf | Format::Json => error,
    }
}

/// Whether a key can be taken from it. JSON may begin like the field: with a line feed, and a tab as the
/// length.
fn is_protobuf(body: &[u8]) -> bool {
    let is_text = std::str::from_utf8(body).is_ok_and(|text| text.trim_start().starts_with('{'));
    !is_text && matches!(KeyMessages::new(body).next_message(), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protobuf::{KeyFields, write_key};

    #[test]
    fn names_bodies_that_were_sent_as_the_other_format_and_no_others() {
        let mut protobuf = Vec::new();
        let key = KeyFields {
            key_data: &[7; 16],
            rolling_start: 2_670_576,
            rolling_period: 144,
            risk_level: 3,
            origin: "DE",
            report_type: 1,
            days_since_onset: 0,
        };
        write_key(&mut protobuf, &key, ["FR"].into_iter());
        let field = BodyError::from(MalformedBatch::Field);
        let json = BodyError::from(MalformedBatch::Json);
        let too_many = BodyError::TooManyKeys { max: 1 };
        let (text, broken) = (br#"{"keys":[]}"#, b"\n\t{\"keys\": [");
        for (error, body, sent_as, named) in [
            (
                field,
                &text[..],
                Format::Protobuf,
                MalformedBatch::JsonAsProtobuf.into(),
            ),
            (
                field,
                b" \n{",
                Format::Protobuf,
                MalformedBatch::JsonAsProtobuf.into(),
            ),
            (field, &protobuf, Format::Protobuf, field),
            (
                json,
                &protobuf,
                Format::Json,
                MalformedBatch::ProtobufAsJson.into(),
            ),
            (json, broken, Format::Json, json),
            (json, b"", Format::Json, json),
            (too_many, text, Format::Protobuf, too_many),
        ] {
            assert_eq!(name_mix_up(error, body, sent_as), named, "{body:?}");
        }
    }
}
