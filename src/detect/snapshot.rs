//! The detector's state as bytes, and back.
//!
//! Invariant: a detector restored from a snapshot goes on exactly like the one it was taken from. The bytes carry a
//! version; another version's are refused, and the pipeline then reads the log again from where it still reaches.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entity::{self, Entities};
use super::episode::Episode;
use super::erase::Erasures;
use super::familiar::{self, Familiar};
use super::key::Key;
use super::mistyped::{self, Mistyped};
use super::recent::Recent;
use super::session::Sessions;
use super::tenant::TenantState;
use super::watermark::Watermark;
use super::{Config, Detector};
use crate::event::Timestamp;

const VERSION: u8 = 10;

/// The snapshot is not one of this version's.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Written by another version.
    #[error("the snapshot has version {0}, this authspike writes version {VERSION}")]
    Version(u8),
    /// Damaged.
    #[error("the snapshot is damaged: {0}")]
    Damaged(postcard::Error),
    /// Nothing in it.
    #[error("the snapshot is empty")]
    Empty,
}

#[derive(Serialize)]
struct Written<'a> {
    watermark: Watermark,
    tenants: &'a [TenantState],
    entities: entity::Saved,
    familiar: familiar::Saved,
    mistyped: mistyped::Saved,
    recent: &'a Recent,
    sessions: &'a Sessions,
    episodes: &'a BTreeMap<u32, Episode>,
    of_key: &'a BTreeMap<Key, u32>,
    next_episode: u32,
    deadlines: &'a BTreeSet<(Timestamp, u32)>,
    erasures: &'a Erasures,
}

#[derive(Deserialize)]
struct Read {
    watermark: Watermark,
    tenants: Vec<TenantState>,
    entities: entity::Saved,
    familiar: familiar::Saved,
    mistyped: mistyped::Saved,
    recent: Recent,
    sessions: Sessions,
    episodes: BTreeMap<u32, Episode>,
    of_key: BTreeMap<Key, u32>,
    next_episode: u32,
    deadlines: BTreeSet<(Timestamp, u32)>,
    erasures: Erasures,
}

impl Detector {
    /// The state as bytes.
    ///
    /// # Errors
    /// None is known; the encoder's type has one.
    pub fn snapshot(&self) -> Result<Vec<u8>, SnapshotError> {
        let written = Written {
            watermark: self.watermark,
            tenants: &self.tenants,
            entities: self.entities.save(),
            familiar: self.familiar.save(),
            mistyped: self.mistyped.save(self.watermark.now()),
            recent: &self.recent,
            sessions: &self.sessions,
            episodes: &self.episodes,
            of_key: &self.of_key,
            next_episode: self.next_episode,
            deadlines: &self.deadlines,
            erasures: &self.erasures,
        };
        postcard::to_extend(&written, vec![VERSION]).map_err(SnapshotError::Damaged)
    }

    /// A detector that goes on from `snapshot` under `config`.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn restore(config: &Config, snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let (version, body) = snapshot.split_first().ok_or(SnapshotError::Empty)?;
        if *version != VERSION {
            return Err(SnapshotError::Version(*version));
        }
        let read: Read = postcard::from_bytes(body).map_err(SnapshotError::Damaged)?;
        let mut detector = Self::new(config);
        detector.watermark = read.watermark;
        detector.tenant_places = (0..).zip(&read.tenants).map(|(place, state)| (state.tenant.clone(), place)).collect();
        detector.tenants = read.tenants;
        for tenant in &mut detector.tenants {
            tenant.thresholds = config.thresholds_of(&tenant.tenant);
        }
        let shares = config.shares();
        detector.entities = Entities::restore(read.entities, shares.entities, shares.cold);
        detector.familiar = Familiar::restore(read.familiar, shares.familiar);
        detector.mistyped = Mistyped::restore(read.mistyped);
        detector.recent = read.recent;
        detector.sessions = read.sessions;
        detector.episodes = read.episodes;
        detector.of_key = read.of_key;
        detector.next_episode = read.next_episode;
        detector.deadlines = read.deadlines;
        detector.erasures = read.erasures;
        Ok(detector)
    }
}
