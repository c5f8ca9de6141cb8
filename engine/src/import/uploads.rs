//! Uploads of a download batch, or those that wait for one: read, judged and written one after the
//! other.

use super::gathered::SealedUpload;
use super::upload::{ReadUpload, UploadFault, VerificationContext, read_upload};
use super::{ImportError, Note, Run, reading, thumbprint, writing};
use crate::domain::{Country, Seq, Thumbprint, UploadTag};
use crate::limits;
use crate::seal::seal_context;
use crate::store::{KeysOf, ReferenceKey, ReferenceUpload, UploadPlace};

/// What was written of a download batch.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) uploads: u64,
    pub(super) keys: u64,
    /// Whether one upload's keys lay between those of another.
    pub(super) interleaved: bool,
}

/// Keys of an upload that are to be imported.
struct Accepted {
    country: Country,
    read: ReadUpload,
    shared: ReferenceUpload,
    signer: Thumbprint,
}

impl Run<'_> {
    /// Writes uploads from the next position on, and leaves out those that are refused.
    pub(super) fn import_uploads(&mut self, of: KeysOf<'_>) -> Result<Written, ImportError> {
        let mut written = Written::default();
        let mut last_id = 0;
        for place in self.reference.uploads(of).map_err(reading)? {
            written.interleaved |= place.first_id < last_id;
            last_id = last_id.max(place.last_id);
            match self.read_one(of, &place)? {
                Ok(accepted) => {
                    written.uploads += 1;
                    written.keys += u64::from(accepted.read.key_count);
                    self.gather(&place, accepted)?;
                }
                Err(fault) => self.leave_out(&place, fault),
            }
        }
        self.write_gathered()?;
        Ok(written)
    }

    /// Reads and judges the keys of an upload.
    fn read_one(
        &mut self,
        of: KeysOf<'_>,
        place: &UploadPlace,
    ) -> Result<Result<Accepted, UploadFault>, ImportError> {
        let Ok(country) = Country::parse(&place.name.country) else {
            return Ok(Err(UploadFault::NoCountry));
        };
        let Some(keys) = self.read_keys(of, place)? else {
            return Ok(Err(UploadFault::TooManyKeys));
        };
        let shared = self.reference.upload_of_key(place.first_id);
        let Some(shared) = shared.map_err(reading)? else {
            return Err(ImportError::Changed);
        };
        let read = match self.verdict(country, &shared, &keys) {
            // Else every single key would be unreadable.
            Err(UploadFault::Unreadable { id, column }) if !self.opened_one => {
                return Err(ImportError::Key { id, column });
            }
            Err(fault) => return Ok(Err(fault)),
            Ok(read) => read,
        };
        self.opened_one = true;
        let signer = match read.signer {
            Err(_) if read.may_be_a_part() => {
                self.signer_of_whole(country, &shared, place, &read)?
            }
            signer => signer.map_err(UploadFault::Signature),
        };
        Ok(signer.map(|signer| Accepted {
            country,
            read,
            shared,
            signer,
        }))
    }

    /// The keys of an upload; nothing if it has more than an upload may.
    fn read_keys(
        &mut self,
        of: KeysOf<'_>,
        place: &UploadPlace,
    ) -> Result<Option<Vec<ReferenceKey>>, ImportError> {
        if place.key_count > u64::from(limits::UPLOAD_KEYS_MAX) {
            return Ok(None);
        }
        let keys_max = limits::UPLOAD_KEYS_MAX as usize;
        self.reference
            .keys(of, &place.name, keys_max)
            .map_err(reading)
    }

    fn verdict(
        &self,
        country: Country,
        shared: &ReferenceUpload,
        keys: &[ReferenceKey],
    ) -> Result<ReadUpload, UploadFault> {
        let context = VerificationContext {
            country,
            batch_signature: &shared.batch_signature,
            trust: &self.trust,
            keys: self.keys,
        };
        read_upload(keys, &self.columns, &context)
    }

    /// Who signed all keys of an upload that lies in several download batches.
    fn signer_of_whole(
        &mut self,
        country: Country,
        shared: &ReferenceUpload,
        place: &UploadPlace,
        part: &ReadUpload,
    ) -> Result<Result<Thumbprint, UploadFault>, ImportError> {
        if let Some(known) = self.parts.get(&place.name) {
            return Ok(*known);
        }
        let keys_max = limits::UPLOAD_KEYS_MAX as usize;
        let all = self.reference.keys(KeysOf::All, &place.name, keys_max);
        let signer = match all.map_err(reading)? {
            None => Err(UploadFault::TooManyKeys),
            Some(all) if all.len() == part.key_count as usize => {
                part.signer.map_err(UploadFault::Signature)
            }
            Some(all) => {
                let whole = self.verdict(country, shared, &all);
                whole.and_then(|whole| whole.signer.map_err(UploadFault::Signature))
            }
        };
        self.parts.insert(place.name.clone(), signer);
        Ok(signer)
    }

    fn leave_out(&mut self, place: &UploadPlace, fault: UploadFault) {
        self.imported.left_out_uploads += 1;
        self.imported.left_out_keys += place.key_count;
        if self.imported.left_out_uploads <= limits::IMPORT_UPLOADS_NAMED_MAX as u64 {
            self.note(Note::UploadLeftOut {
                country: place.name.country.clone(),
                tag: place.name.tag.clone(),
                key_count: place.key_count,
                fault,
            });
        }
        self.stop_writing_if_refused();
    }

    /// Gives an upload the next position.
    fn gather(&mut self, place: &UploadPlace, accepted: Accepted) -> Result<(), ImportError> {
        let Accepted {
            country,
            read,
            shared,
            signer,
        } = accepted;
        let (signature, keys) = (&shared.batch_signature, u64::from(read.key_count));
        self.signatures.count(country, signature, keys);
        let tag = self.free_tag(country, &place.name.tag);
        let uploader = thumbprint(&shared.uploader);
        if uploader.is_none() {
            let tag = tag.clone();
            self.note(Note::ThumbprintLost { country, tag });
        }
        let seq = self.next;
        self.next = Seq(seq.0 + 1);
        let Some(target) = &mut self.target else {
            return Ok(());
        };
        let upload = SealedUpload {
            seq,
            country,
            sealed: self.keys.seal(&read.segment, &seal_context(country, &tag)),
            tag,
            read,
            shared,
            uploader: uploader.unwrap_or(Thumbprint([0; 32])),
            signer,
        };
        self.gathered.push(upload, target).map_err(writing)
    }

    fn write_gathered(&mut self) -> Result<(), ImportError> {
        let gathered = std::mem::take(&mut self.gathered);
        match &mut self.target {
            Some(target) => gathered.write(target).map_err(writing),
            None => Ok(()),
        }
    }

    /// The tag itself, or the first free one after it.
    fn free_tag(&mut self, country: Country, text: &str) -> UploadTag {
        let mut attempts = (1..).map(|attempt| tag_attempt(text, attempt));
        let mut is_free = |tag: &UploadTag| self.tags.insert((country, tag.clone()));
        let tag = attempts.find(&mut is_free).expect("numbers do not end");
        if tag.as_str() != text {
            self.note(Note::TagChanged {
                country,
                from: text.to_owned(),
                to: tag.clone(),
            });
        }
        tag
    }
}

/// The tag for an attempt to find a free one: what is not allowed replaced, from the second
/// attempt on with its number at the end.
fn tag_attempt(text: &str, attempt: u32) -> UploadTag {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let number = match attempt {
        1 => String::new(),
        _ => format!("~{attempt}"),
    };
    let room = UploadTag::CHARACTERS_MAX - number.len();
    let mut tag: String = text.chars().map(visible).take(room).collect();
    tag.push_str(&number);
    let tag = if tag.is_empty() { "_" } else { &tag };
    UploadTag::parse(tag).expect("visible ASCII of the right length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_other_tags_in_a_fixed_order() {
        let long = "x".repeat(64);
        let check = |text: &str, attempt, expected: &str| {
            assert_eq!(tag_attempt(text, attempt).as_str(), expected);
        };
        check("a b", 1, "a_b");
        check("a", 2, "a~2");
        check("", 1, "_");
        check(&long, 1, &long);
        check(&long, 11, &format!("{}~11", "x".repeat(61)));
    }
}
