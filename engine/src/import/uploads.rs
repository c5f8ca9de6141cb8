//! Uploads of a download batch, or those that wait for one: read, checked and written one after the
//! other.

use super::upload::{ReadUpload, UploadFault, VerificationContext, read_upload};
use super::write_buffer::SealedUpload;
use super::{ImportError, Note, Run, reading, thumbprint, writing};
use crate::domain::{Country, Seq, Thumbprint, UploadTag};
use crate::limits;
use crate::log_chain::LogColumns;
use crate::seal::SealedRow;
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

/// Why an upload is not read.
enum ReadError {
    /// It is left out; the import continues.
    Upload(UploadFault),
    /// The import ends.
    Import(ImportError),
}

impl From<UploadFault> for ReadError {
    fn from(fault: UploadFault) -> Self {
        Self::Upload(fault)
    }
}

impl From<ImportError> for ReadError {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl Run<'_> {
    /// Writes uploads from the next position on, and leaves out those that are refused.
    pub(super) fn import_uploads(&mut self, of: KeysOf<'_>) -> Result<Written, ImportError> {
        let mut written = Written::default();
        let mut last_id = 0;
        for place in self.reference.uploads(of).map_err(reading)? {
            written.interleaved |= place.first_id < last_id;
            last_id = last_id.max(place.last_id);
            match self.read_one(of, &place) {
                Ok(accepted) => {
                    written.uploads += 1;
                    written.keys += u64::from(accepted.read.key_count);
                    self.buffer(&place, accepted)?;
                }
                Err(ReadError::Upload(fault)) => self.leave_out(&place, fault),
                Err(ReadError::Import(error)) => return Err(error),
            }
        }
        self.write_buffer()?;
        Ok(written)
    }

    /// Reads and checks the keys of an upload.
    fn read_one(&mut self, of: KeysOf<'_>, place: &UploadPlace) -> Result<Accepted, ReadError> {
        let Ok(country) = Country::parse(&place.name.country) else {
            return Err(UploadFault::NoCountry.into());
        };
        let Some(keys) = self.read_keys(of, place)? else {
            return Err(UploadFault::TooManyKeys.into());
        };
        let shared = self.reference.upload_of_key(place.first_id);
        let Some(shared) = shared.map_err(reading)? else {
            return Err(ImportError::Changed.into());
        };
        let read = match self.verdict(country, &shared, &keys) {
            // Otherwise, every single key would be unreadable.
            Err(UploadFault::Unreadable { id, column }) if !self.opened_one => {
                return Err(ImportError::Key { id, column }.into());
            }
            read => read?,
        };
        self.opened_one = true;
        let signer = match read.signer {
            Err(_) if read.may_be_a_part() => {
                self.signer_of_whole(country, &shared, place, &read)?
            }
            signer => signer.map_err(UploadFault::Signature)?,
        };
        Ok(Accepted {
            country,
            read,
            shared,
            signer,
        })
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
    ) -> Result<Thumbprint, ReadError> {
        if let Some(known) = self.parts.get(&place.name) {
            return Ok((*known)?);
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
        Ok(signer?)
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
    fn buffer(&mut self, place: &UploadPlace, accepted: Accepted) -> Result<(), ImportError> {
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
        let uploader = uploader.unwrap_or(Thumbprint([0; 32]));
        let columns = self.keys.chain().columns(&LogColumns {
            created_at: read.created_at,
            country,
            tag: &tag,
            key_count: read.key_count,
            format_version: shared.format_version(),
            uploader: &uploader,
            signer: &signer,
            content: &read.content,
            batch_signature: &shared.batch_signature,
            identities: &read.identities,
        });
        let row = SealedRow {
            country,
            tag: &tag,
            content: &read.content,
            signer: &signer,
            key_count: read.key_count,
            columns: Some(columns),
        };
        let link = self.keys.chain().link(self.last_link, seq, columns);
        self.last_link = Some(link.digest);
        let upload = SealedUpload {
            seq,
            country,
            link,
            sealed: self.keys.seal(&read.segment, &row.seal_context()),
            tag,
            read,
            shared,
            uploader,
            signer,
        };
        self.buffer.push(upload, target).map_err(writing)
    }

    fn write_buffer(&mut self) -> Result<(), ImportError> {
        let buffer = std::mem::take(&mut self.buffer);
        match &mut self.target {
            Some(target) => buffer.write(target).map_err(writing),
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
