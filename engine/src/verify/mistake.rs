//! Which usual mistake explains a signature over something else: only after a mismatch, and for the
//! uploader alone, who then knows where to look in its signer.
//!
//! - *In*: the canonical texts, the body, and the digest that was signed.
//! - *Out*: the [`SigningMistake`] whose content has that digest, if one has.
//! - *Assumes*: the texts are canonical. A wrong guess would take a collision of the hash.
//! - *Runs on*: the CPU job of the upload, under its permit. Each [`SigningMistake`] is tried with one
//!   pass over the texts or the body, at the most; three of them sort the keys. Not for large uploads.

use std::borrow::Cow;

use aws_lc_rs::digest::{Context, Digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canonical::CanonicalBytes;
use super::signature::decode_base64;
use crate::limits;
use crate::pki::SignedMessage;
use crate::pki::algorithm::Hash;

/// What was signed in place of the canonical bytes (wire §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningMistake {
    /// Nothing at all.
    Nothing,
    /// The body as it was sent.
    Body,
    /// The digest of the canonical bytes, as 32 bytes.
    DigestOfBytes,
    /// The canonical bytes in base64.
    Base64OfBytes,
    /// The texts in the order of the request.
    RequestOrder,
    /// The texts in their own order instead of that of their base64.
    TextOrder,
    /// The texts in the order of the key data.
    KeyDataOrder,
    /// Without the dot behind the last field of the last text.
    NoLastDot,
    /// Without the dot behind the last field of every text.
    NoClosingDots,
    /// With a line feed behind each text.
    LineFeeds,
    /// With a line feed between texts.
    LineFeedsBetween,
    /// Numbers with their least significant byte first.
    LittleEndian,
    /// Numbers in decimal digits instead of four bytes.
    DecimalNumbers,
    /// Days since onset of symptoms in protobuf's zigzag.
    ZigzagDays,
    /// Visited countries in the order of the alphabet instead of that of the request.
    SortedCountries,
    /// Fields in hexadecimal instead of base64.
    Hexadecimal,
}

impl SigningMistake {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 16] = [
        Self::Nothing,
        Self::Body,
        Self::DigestOfBytes,
        Self::Base64OfBytes,
        Self::RequestOrder,
        Self::TextOrder,
        Self::KeyDataOrder,
        Self::NoLastDot,
        Self::NoClosingDots,
        Self::LineFeeds,
        Self::LineFeedsBetween,
        Self::LittleEndian,
        Self::DecimalNumbers,
        Self::ZigzagDays,
        Self::SortedCountries,
        Self::Hexadecimal,
    ];
}

/// What was sent, to try mistakes on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mismatch<'a> {
    pub(crate) canonical: &'a CanonicalBytes,
    /// As it was sent.
    pub(crate) body: &'a [u8],
    /// Base64 of the detached CMS.
    pub(crate) batch_signature: &'a str,
}

impl Mismatch<'_> {
    /// The mistake whose content has the digest that was signed. Nothing without signed attributes, in
    /// which that digest is, and nothing for more than [`limits::EXPLAINED_KEYS_MAX`] keys.
    pub(crate) fn mistake(&self) -> Option<SigningMistake> {
        let cms = decode_base64(self.batch_signature).ok()?;
        let message = SignedMessage::parse(&cms).ok()?;
        let signer = message.signer();
        let hash = Hash::of(&signer.digest_algorithm)?;
        let signed = signer.signed_attributes.as_ref()?.message_digest().ok()?;
        self.explain(hash, signed)
    }

    fn explain(&self, hash: Hash, signed: &[u8]) -> Option<SigningMistake> {
        if self.canonical.key_count() > limits::EXPLAINED_KEYS_MAX {
            return None;
        }
        let is_it = |mistake: &SigningMistake| {
            let digest = self.digest(*mistake, hash);
            digest.is_some_and(|digest| digest.as_ref() == signed)
        };
        SigningMistake::ALL.into_iter().find(is_it)
    }

    /// The digest of what the mistake leads to.
    fn digest(&self, mistake: SigningMistake, hash: Hash) -> Option<Digest> {
        use SigningMistake as Mistake;
        let canonical = self.canonical;
        match mistake {
            Mistake::Nothing => hash.digest(b""),
            Mistake::Body => hash.digest(self.body),
            Mistake::DigestOfBytes => hash.digest(hash.digest(canonical.as_bytes())?.as_ref()),
            Mistake::Base64OfBytes => hash.digest(STANDARD.encode(canonical.as_bytes()).as_bytes()),
            Mistake::RequestOrder => self.ordered(hash, |_| {}),
            Mistake::TextOrder => self.ordered(hash, |texts| texts.sort_unstable()),
            Mistake::KeyDataOrder => {
                let key_data = |text: &&[u8]| decoded(fields(text).next().unwrap_or_default());
                self.ordered(hash, |texts| texts.sort_by_cached_key(key_data))
            }
            Mistake::NoLastDot => {
                let bytes = canonical.as_bytes();
                hash.digest(bytes.strip_suffix(b".").unwrap_or(bytes))
            }
            Mistake::NoClosingDots => self.rewritten(hash, |text| {
                Cow::Borrowed(text.strip_suffix(b".").unwrap_or(text))
            }),
            Mistake::LineFeeds => self.rewritten(hash, |text| [text, b"\n"].concat().into()),
            Mistake::LineFeedsBetween => {
                hash.digest(&self.texts().collect::<Vec<_>>().join(&b'\n'))
            }
            Mistake::LittleEndian => self.refielded(hash, little_endian),
            Mistake::DecimalNumbers => self.refielded(hash, decimal),
            Mistake::ZigzagDays => self.refielded(hash, zigzag_days),
            Mistake::SortedCountries => self.refielded(hash, sorted_countries),
            Mistake::Hexadecimal => self.hexadecimal(hash),
        }
    }

    /// The texts in signing order.
    fn texts(&self) -> impl Iterator<Item = &[u8]> {
        let order = self.canonical.order().iter();
        order.map(|index| self.canonical.key(*index as usize))
    }

    /// The texts in the order of the request, put into another one.
    fn ordered(&self, hash: Hash, order: impl FnOnce(&mut [&[u8]])) -> Option<Digest> {
        let indices = 0..self.canonical.key_count();
        let mut texts: Vec<_> = indices.map(|index| self.canonical.key(index)).collect();
        order(&mut texts);
        digest_of(hash, texts.into_iter().map(Cow::Borrowed))
    }

    /// The texts in signing order, each written differently.
    fn rewritten<'a>(
        &'a self,
        hash: Hash,
        rewrite: impl Fn(&'a [u8]) -> Cow<'a, [u8]>,
    ) -> Option<Digest> {
        digest_of(hash, self.texts().map(rewrite))
    }

    /// The texts in signing order, with fields of other bytes.
    fn refielded(&self, hash: Hash, change: fn(usize, Vec<u8>) -> Vec<u8>) -> Option<Digest> {
        self.rewritten(hash, |text| {
            let changed = fields(text).enumerate().map(|(at, field)| {
                let bytes = change(at, decoded(field));
                STANDARD.encode(bytes) + "."
            });
            changed.collect::<String>().into_bytes().into()
        })
    }

    /// Such texts have another order.
    fn hexadecimal(&self, hash: Hash) -> Option<Digest> {
        let hexadecimal = |text| {
            let digits = |byte: u8| format!("{byte:02x}");
            let field = |field| decoded(field).into_iter().map(digits).collect::<String>() + ".";
            fields(text).map(field).collect::<String>()
        };
        let mut texts: Vec<String> = self.texts().map(hexadecimal).collect();
        texts.sort_by_cached_key(|text| STANDARD.encode(text));
        digest_of(hash, texts.iter().map(|text| text.as_bytes().into()))
    }
}

fn digest_of<'a>(hash: Hash, pieces: impl Iterator<Item = Cow<'a, [u8]>>) -> Option<Digest> {
    let mut context = Context::new(hash.algorithm()?);
    pieces.for_each(|piece| context.update(&piece));
    Some(context.finish())
}

/// The fields of a text, in base64.
fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_suffix(b".").unwrap_or(text);
    text.split(|byte| *byte == b'.')
}

fn decoded(field: &[u8]) -> Vec<u8> {
    STANDARD.decode(field).unwrap_or_default()
}

const COUNTRIES: usize = 4;
const ORIGIN: usize = 5;
const DAYS: usize = 7;

/// A field's number, if it is one.
fn number(at: usize, bytes: &[u8]) -> Option<i32> {
    let is_number = !matches!(at, 0 | COUNTRIES | ORIGIN);
    is_number.then(|| bytes.try_into().ok().map(i32::from_be_bytes))?
}

fn little_endian(at: usize, bytes: Vec<u8>) -> Vec<u8> {
    let number = number(at, &bytes);
    number.map_or(bytes, |number| number.to_le_bytes().to_vec())
}

fn decimal(at: usize, bytes: Vec<u8>) -> Vec<u8> {
    let number = number(at, &bytes);
    number.map_or(bytes, |number| number.to_string().into_bytes())
}

fn zigzag_days(at: usize, bytes: Vec<u8>) -> Vec<u8> {
    match number(at, &bytes) {
        Some(days) if at == DAYS => ((days << 1) ^ (days >> 31)).to_be_bytes().to_vec(),
        _ => bytes,
    }
}

fn sorted_countries(at: usize, bytes: Vec<u8>) -> Vec<u8> {
    if at != COUNTRIES {
        return bytes;
    }
    let mut countries: Vec<&[u8]> = bytes.split(|byte| *byte == b',').collect();
    countries.sort_unstable();
    countries.join(&b',')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::wire::protobuf::{KeyFields, write_key};

    const BODY: &[u8] = b"the body";

    /// Keys whose four orders differ.
    fn canonical() -> CanonicalBytes {
        canonical_of([0x6e, 0xd8, 0x0e, 0x71, 0xe0].into_iter())
    }

    fn canonical_of(first_bytes: impl Iterator<Item = u8>) -> CanonicalBytes {
        let mut body = Vec::new();
        for first in first_bytes {
            let mut key_data = [7; 16];
            key_data[0] = first;
            let key = KeyFields {
                key_data: &key_data,
                rolling_start: 2_670_576,
                rolling_period: 144,
                risk_level: 3,
                origin: "DE",
                report_type: 1,
                days_since_onset: -2,
            };
            write_key(&mut body, &key, ["IT", "FR"].into_iter());
        }
        CanonicalBytes::of(&decode(&body, 5000).unwrap())
    }

    fn mismatch(canonical: &CanonicalBytes) -> Mismatch<'_> {
        Mismatch {
            canonical,
            body: BODY,
            batch_signature: "",
        }
    }

    #[test]
    fn tells_all_mistakes_from_one_another_and_from_none() {
        let canonical = canonical();
        let mismatch = mismatch(&canonical);
        let mut seen = vec![Hash::Sha256.digest(canonical.as_bytes()).unwrap()];
        for mistake in SigningMistake::ALL {
            let digest = mismatch.digest(mistake, Hash::Sha256).unwrap();
            let is_new = !seen.iter().any(|other| other.as_ref() == digest.as_ref());
            assert!(is_new, "{mistake:?}");
            seen.push(digest);
        }
    }

    #[test]
    fn explains_uploads_up_to_a_bound() {
        for (count, explained) in [
            (limits::EXPLAINED_KEYS_MAX, Some(SigningMistake::LineFeeds)),
            (limits::EXPLAINED_KEYS_MAX + 1, None),
        ] {
            let canonical = canonical_of((0..=u8::MAX).cycle().take(count));
            let mismatch = mismatch(&canonical);
            let signed = mismatch.digest(SigningMistake::LineFeeds, Hash::Sha256);
            let found = mismatch.explain(Hash::Sha256, signed.unwrap().as_ref());
            assert_eq!(found, explained, "{count} keys");
        }
    }

    /// Each content as one would write it down.
    #[test]
    fn computes_what_the_mistakes_lead_to() {
        let canonical = canonical();
        let mismatch = mismatch(&canonical);
        let text = |index| {
            std::str::from_utf8(canonical.key(index))
                .unwrap()
                .to_owned()
        };
        let as_sent: Vec<_> = (0..5).map(text).collect();
        let mut by_text = as_sent.clone();
        by_text.sort();
        let by_key_data = [2, 0, 3, 1, 4].map(text).concat();
        let in_order: Vec<_> = canonical
            .order()
            .iter()
            .map(|at| text(*at as usize))
            .collect();
        let whole = in_order.concat();
        let replaced = |from: &str, to: &str| {
            assert!(whole.contains(from), "{from}");
            whole.replace(from, to)
        };
        use SigningMistake as Mistake;
        for (mistake, expected) in [
            (Mistake::Nothing, String::new()),
            (Mistake::Body, "the body".to_owned()),
            (Mistake::Base64OfBytes, STANDARD.encode(&whole)),
            (Mistake::RequestOrder, as_sent.concat()),
            (Mistake::TextOrder, by_text.concat()),
            (Mistake::KeyDataOrder, by_key_data),
            (Mistake::NoLastDot, whole[..whole.len() - 1].to_owned()),
            (Mistake::NoClosingDots, replaced("/////g==.", "/////g==")),
            (Mistake::LineFeeds, in_order.join("\n") + "\n"),
            (Mistake::LineFeedsBetween, in_order.join("\n")),
            (Mistake::ZigzagDays, replaced("/////g==.", "AAAAAw==.")),
            (Mistake::SortedCountries, replaced("SVQsRlI=", "RlIsSVQ=")),
            (
                Mistake::LittleEndian,
                replaced(
                    ".ACi/8A==.AAAAkA==.AAAAAw==.SVQsRlI=.REU=.AAAAAQ==./////g==.",
                    ".8L8oAA==.kAAAAA==.AwAAAA==.SVQsRlI=.REU=.AQAAAA==./v///w==.",
                ),
            ),
            (
                Mistake::DecimalNumbers,
                replaced(
                    ".ACi/8A==.AAAAkA==.AAAAAw==.SVQsRlI=.REU=.AAAAAQ==./////g==.",
                    ".MjY3MDU3Ng==.MTQ0.Mw==.SVQsRlI=.REU=.MQ==.LTI=.",
                ),
            ),
        ] {
            let found = mismatch.digest(mistake, Hash::Sha384).unwrap();
            let expected = Hash::Sha384.digest(expected.as_bytes()).unwrap();
            assert_eq!(found.as_ref(), expected.as_ref(), "{mistake:?}");
        }
    }
}
