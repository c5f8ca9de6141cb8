//! What a participant can do about a refused signature, where the code does not say it.

use engine::verify::{SignatureError, SigningMistake};
use engine::wire::MalformedBatch;

/// Who can do what about a refused signature, if it is not just wrong.
pub(super) const fn signature_advice(error: SignatureError) -> Option<&'static str> {
    if matches!(error, SignatureError::WeakDigest) {
        return Some(
            "MD5 is never accepted; SHA-1 only if the gateway's operator lists the participant in \
             [signatures] legacy_sha1",
        );
    }
    if matches!(error, SignatureError::PssNotAllowed) {
        return Some(
            "RSA-PSS is accepted only if the gateway's operator lists the participant in \
             [signatures] pss",
        );
    }
    None
}

/// What was signed, and what is to be signed (wire §9).
pub(super) const fn mistake_advice(mistake: SigningMistake) -> &'static str {
    match mistake {
        SigningMistake::Nothing => {
            "your digest is that of no bytes at all: nothing reached what hashes or signs"
        }
        SigningMistake::Body => {
            "your digest is that of the body: sign the canonical bytes of its keys instead"
        }
        SigningMistake::DigestOfBytes => {
            "your digest is that of the right digest: it was hashed twice; sign the bytes themselves"
        }
        SigningMistake::Base64OfBytes => {
            "your digest is that of the right bytes in base64: sign the bytes themselves"
        }
        SigningMistake::RequestOrder => {
            "your digest is that of the keys in the order in which they were sent: sort their texts \
             by the base64 of each text"
        }
        SigningMistake::TextOrder => {
            "your digest is that of the keys sorted by their texts: sort them by the base64 of each \
             text, which is another order"
        }
        SigningMistake::KeyDataOrder => {
            "your digest is that of the keys sorted by their key data: sort their texts by the \
             base64 of each text, which is another order"
        }
        SigningMistake::NoLastDot => {
            "your digest is that of the right bytes without the dot at their end"
        }
        SigningMistake::NoClosingDots => {
            "your digest is that of texts without the dot at their end: every field has one, the \
             last one, too"
        }
        SigningMistake::LineFeeds => {
            "your digest is that of texts with a line feed behind each: there is nothing between them"
        }
        SigningMistake::LineFeedsBetween => {
            "your digest is that of texts with a line feed between them: there is nothing"
        }
        SigningMistake::LittleEndian => {
            "your digest is that of texts whose numbers have the least significant byte first: the \
             most significant comes first"
        }
        SigningMistake::DecimalNumbers => {
            "your digest is that of texts whose numbers are decimal digits: each is four bytes, the \
             most significant first"
        }
        SigningMistake::ZigzagDays => {
            "your digest is that of texts whose days since onset of symptoms are in zigzag, as \
             protobuf writes them: they are in two's complement"
        }
        SigningMistake::SortedCountries => {
            "your digest is that of texts whose visited countries are sorted: they stay in the order \
             in which they are sent"
        }
        SigningMistake::Hexadecimal => {
            "your digest is that of texts whose fields are hexadecimal: each is in base64"
        }
    }
}

/// What is wrong with the request, where the body is in order.
pub(super) const fn body_advice(error: MalformedBatch) -> Option<&'static str> {
    match error {
        MalformedBatch::JsonAsProtobuf => {
            Some("the body is JSON: send it with Content-Type: application/json; version=1.0")
        }
        MalformedBatch::ProtobufAsJson => Some(
            "the body is protobuf: send it with Content-Type: application/protobuf; version=1.0",
        ),
        MalformedBatch::Truncated
        | MalformedBatch::Field
        | MalformedBatch::NotUtf8
        | MalformedBatch::Json
        | MalformedBatch::Base64 => None,
    }
}
