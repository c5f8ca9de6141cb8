//! Callback subscriptions of the reference: those that the API would take, each with what it has
//! been notified so far.

use std::collections::{BTreeMap, HashMap};

use super::error::ImportError;
use super::note::Note;
use super::{ChainBatch, Run, UrlCheck, reading};
use crate::domain::{BatchTag, CallbackId, Country};
use crate::limits;
use crate::store::{ImportedSubscription, ReferenceSubscription};

impl Run<'_> {
    /// The subscriptions to import. What is still to be delivered is delivered by the gateway.
    ///
    /// Two rows with one id (the reference allows them, and answers 500 then) count as one: the
    /// later.
    pub(super) fn read_subscriptions(
        &mut self,
        chain: &[ChainBatch],
        check: UrlCheck<'_>,
    ) -> Result<Vec<ImportedSubscription>, ImportError> {
        let found = self.reference.subscriptions().map_err(reading)?;
        let waiting = self.oldest_waiting()?;
        let mut taken: BTreeMap<_, ImportedSubscription> = BTreeMap::new();
        for row in &found {
            match subscription(row, check) {
                Ok(mut subscription) => {
                    let oldest = waiting.get(&row.id);
                    subscription.delivered_ordinal = delivered_before(chain, oldest);
                    let key = (subscription.country, subscription.callback_id.clone());
                    if taken.insert(key, subscription).is_some() {
                        self.skip(row, "a later one has the same id".to_owned());
                    }
                }
                Err(why) => self.skip(row, why),
            }
        }
        let taken = self.within_limits(taken.into_values());
        self.imported.subscriptions = taken.len() as u64;
        Ok(taken)
    }

    /// Of each subscription, the first download batch that was not announced to it.
    fn oldest_waiting(&mut self) -> Result<HashMap<u64, BatchTag>, ImportError> {
        let mut oldest: HashMap<u64, BatchTag> = HashMap::new();
        for (subscription, name) in self.reference.waiting_callbacks().map_err(reading)? {
            let tag = super::batch_tag(&name)?;
            let first = oldest.entry(subscription).or_insert(tag);
            *first = tag.min(*first);
        }
        Ok(oldest)
    }

    /// As many of each country as the API takes.
    fn within_limits(
        &mut self,
        subscriptions: impl Iterator<Item = ImportedSubscription>,
    ) -> Vec<ImportedSubscription> {
        let mut counts: HashMap<Country, u64> = HashMap::new();
        let mut taken = Vec::new();
        for subscription in subscriptions {
            let count = counts.entry(subscription.country).or_default();
            *count += 1;
            if *count <= limits::CALLBACKS_PER_COUNTRY_MAX {
                taken.push(subscription);
                continue;
            }
            self.note(Note::SubscriptionSkipped {
                country: subscription.country.to_string(),
                callback_id: subscription.callback_id.to_string(),
                why: format!(
                    "a participant may have {}",
                    limits::CALLBACKS_PER_COUNTRY_MAX
                ),
            });
        }
        taken
    }

    fn skip(&mut self, row: &ReferenceSubscription, why: String) {
        self.note(Note::SubscriptionSkipped {
            country: row.country.clone(),
            callback_id: row.callback_id.clone(),
            why,
        });
    }
}

/// A subscription as the API would take it, or why it would not.
fn subscription(
    row: &ReferenceSubscription,
    check: UrlCheck<'_>,
) -> Result<ImportedSubscription, String> {
    let country = Country::parse(&row.country).map_err(|_| "it has no country of two letters")?;
    let callback_id = CallbackId::parse(&row.callback_id).map_err(|error| error.to_string())?;
    (check.0)(&row.url)?;
    Ok(ImportedSubscription {
        country,
        callback_id,
        url: row.url.as_str().into(),
        created_at: row.created_at,
        delivered_ordinal: 0,
    })
}

/// The position in the chain up to which a subscriber was notified: all of it, unless something waits.
fn delivered_before(chain: &[ChainBatch], oldest_waiting: Option<&BatchTag>) -> u64 {
    let told = oldest_waiting.map_or(chain.len(), |oldest| {
        chain.partition_point(|batch| batch.tag < *oldest)
    });
    told as u64
}
