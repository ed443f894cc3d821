//! Forgetting accounts: who may ask for it, what knows their names, and what has to be cleaned.

use std::sync::Arc;

use super::engine::Engine;
use super::way_out::WayOut;
use crate::alias::{self, Aliases};
use crate::clock::Clock;
use crate::config::Config;
use crate::erasure::{Eraser, Linked, Requests};
use crate::event::Tenant;
use crate::metrics::Metrics;
use crate::sinks::jsonl::Files;
use crate::store::Store;

/// Where accounts are asked for, and what forgets them in what is stored here, if anything is.
pub(super) fn open(
    config: &Config,
    engine: &Engine,
    way_out: Option<&WayOut>,
    clock: &Clock,
    metrics: &Metrics,
) -> (Requests, Option<Eraser>) {
    let linked = linked(engine.aliases().clone(), way_out.map(|way_out| way_out.store().clone()));
    let requests = Requests::new(engine.log(), clock.clone(), !config.kafka.is_on(), linked);
    let eraser = way_out.map(|way_out| Eraser {
        store: way_out.store().clone(),
        // Nothing may be written any more, and much may have been.
        files: way_out.files().unwrap_or_else(|| Files::of(&config.sinks.jsonl, &config.data_dir)),
        data_dir: config.data_dir.clone(),
        requests: requests.clone(),
        clock: clock.clone(),
        metrics: metrics.erasure.clone(),
    });
    (requests, eraser)
}

/// The identifiers of an account, which are forgotten with it.
fn linked(aliases: Aliases, store: Option<Store>) -> Linked {
    Arc::new(move |tenant, user| {
        let tenants = match &store {
            // Whoever can be asked for everywhere has one store with all of them.
            Some(store) if *tenant.0 == *Tenant::EVERY => {
                store.read(|connection| alias::rows::tenants_of(connection, user))
            }
            Some(_) | None => Ok(vec![tenant.clone()]),
        };
        let tenants = tenants.unwrap_or_else(|error| {
            tracing::warn!(%error, "the names of an account that is forgotten are not known");
            Vec::new()
        });
        tenants.iter().flat_map(|tenant| aliases.forget(tenant, user)).collect()
    })
}
