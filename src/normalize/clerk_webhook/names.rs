//! The names of a user, as `user.created` and `user.updated` list them.
//!
//! Invariant: only what was shown to be the user's own is a name of his. Everybody may add anybody's address to his account
//! and leave it unverified: taken for his, it would draw the failures of its owner to him, where nobody looks for them.
//!
//! Not here: addresses at other identity providers, with which nobody signs in by a password or a code.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Body, Text};
use crate::event::{IdentifierHash, Tenant};
use crate::normalize::Names;
use crate::normalize::identifier::IdentifierKey;

/// Names taken of one user: Clerk lets an application allow ten addresses and as many numbers, and people have three.
pub const MAX_NAMES: usize = 32;
/// E-mail addresses end at 254 bytes.
const MAX_NAME_BYTES: usize = 254;

/// An e-mail address or a phone number.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Contact<'a> {
    #[serde(borrow)]
    email_address: Text<'a>,
    #[serde(borrow)]
    phone_number: Text<'a>,
    #[serde(borrow)]
    verification: Option<Verification<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Verification<'a> {
    #[serde(borrow)]
    status: Text<'a>,
}

/// The names in a user's record.
pub(super) fn of(user: &Body<'_>, tenant: &Tenant, key: &IdentifierKey) -> Names {
    let lists = [user.email_addresses, user.phone_numbers].map(|list| list.and_then(contacts));
    let mut complete = lists.iter().all(Option::is_some);
    let contacts = lists.iter().flatten().flatten().filter(|contact| contact.is_verified());
    let texts = contacts.flat_map(|contact| [contact.email_address.loose(), contact.phone_number.loose()]).flatten();
    // Clerk gives a user name to one user only, but one that looks like an address or a number is another's name too.
    let username = user.username.loose().filter(|name| !name.contains('@') && !name.starts_with('+'));
    let mut identifiers: Vec<IdentifierHash> = Vec::new();
    for text in username.into_iter().chain(texts).filter(|text| text.len() <= MAX_NAME_BYTES) {
        if identifiers.len() == MAX_NAMES {
            complete = false;
            break;
        }
        identifiers.push(key.hash(tenant, text));
    }
    Names::Listed { identifiers: identifiers.into(), complete }
}

fn contacts(list: &RawValue) -> Option<Vec<Contact<'_>>> {
    serde_json::from_str(list.get()).ok()
}

impl Contact<'_> {
    fn is_verified(&self) -> bool {
        self.verification.as_ref().is_some_and(|verification| verification.status.loose() == Some("verified"))
    }
}
