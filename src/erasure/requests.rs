//! An operator's request to forget an account: into the log like any event, and waiting for its end.
//!
//! Invariant: what was answered is in the log. Nobody waits for longer than [`PATIENCE`]; what is not done by then is done
//! all the same.
//!
//! Not here: who may ask (`admin`).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Done;
use crate::clock::Clock;
use crate::event::{Account, AuthEvent, IdentifierHash, MAX_ID_BYTES, Outcome, Source, Tenant};
use crate::log::{AppendError, Log};

/// How long an asker waits at one time: below what a request may take.
const PATIENCE: Duration = Duration::from_secs(8);
/// Ends that are remembered for those who ask for them: a minute's, at the most that can be done in it.
const MAX_DONE: usize = 512;

/// Why an account cannot be asked for.
#[derive(Debug, thiserror::Error)]
pub enum Unasked {
    /// It is none.
    #[error("an account is a Clerk user id (user_…) or an identifier as findings show it (idh_…), at most 200 bytes")]
    NoAccount,
    /// On Kafka a record belongs to a tenant.
    #[error("tenant: is missing; on Kafka the instance (ins_…) has to be named")]
    NoTenant,
    /// The log does not take it.
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// The identifiers that are known to be a user's, which are forgotten there: (instance, user id).
pub type Linked = Arc<dyn Fn(&Tenant, &str) -> Vec<IdentifierHash> + Send + Sync>;

/// Where accounts are asked for. Clones share it.
#[derive(Clone)]
pub struct Requests {
    log: Arc<dyn Log>,
    clock: Clock,
    /// Whether one request reaches every tenant.
    reaches_all: bool,
    linked: Linked,
    recent: Arc<Mutex<VecDeque<Done>>>,
    /// Changes with each end.
    ended: Arc<watch::Sender<()>>,
}

impl Requests {
    /// Requests into `log`; `reaches_all` if it has one partition.
    #[must_use]
    pub fn new(log: Arc<dyn Log>, clock: Clock, reaches_all: bool, linked: Linked) -> Self {
        Self { log, clock, reaches_all, linked, recent: Arc::default(), ended: Arc::new(watch::channel(()).0) }
    }

    /// Asks for the account that is written `account` to be forgotten, with its identifiers, at `tenant` or wherever it is;
    /// answers the request's id once that is durable.
    ///
    /// # Errors
    /// See [`Unasked`].
    pub async fn forget(&self, account: &str, tenant: Option<&str>, asked_by: &str) -> Result<String, Unasked> {
        let is_id = |text: &str| {
            (1..=MAX_ID_BYTES).contains(&text.len())
                && !text.chars().any(|char| char.is_control() || char == '@' || char == ' ')
        };
        if !is_id(account) || !tenant.is_none_or(is_id) {
            return Err(Unasked::NoAccount);
        }
        let tenant = match tenant {
            Some(tenant) => Tenant::from(tenant),
            None if self.reaches_all => Tenant::EVERY.into(),
            None => return Err(Unasked::NoTenant),
        };
        let account = Account::named(account);
        let mut accounts = vec![(account.clone(), asked_by)];
        if let Account::User(user) = account {
            let linked = (self.linked)(&tenant, &user);
            accounts.extend(linked.into_iter().map(|identifier| (Account::Identifier(identifier), "link")));
        }
        Ok(self.ask(tenant, accounts).await?)
    }

    /// Asks for an identifier that was seen with an account that was asked for.
    pub(super) async fn ask_for_linked(&self, tenant: Tenant, identifier: Account) -> Result<(), AppendError> {
        self.ask(tenant, vec![(identifier, "link")]).await.map(drop)
    }

    /// Answers the id of the first.
    async fn ask(&self, tenant: Tenant, accounts: Vec<(Account, &str)>) -> Result<String, AppendError> {
        let (request, now) = (random_id(&self.clock), self.clock.now());
        let event = |(place, (account, asked_by)): (usize, (Account, &str))| AuthEvent {
            id: if place == 0 { request.as_str().into() } else { format!("{request}_{place}").into() },
            occurred_at: now,
            received_at: now,
            tenant: tenant.clone(),
            source: Source::Operator,
            outcome: Outcome::AccountDeleted,
            reason: Some(asked_by.into()),
            ip: None,
            account: Some(account),
            identifier: None,
            user_agent: None,
            session: None,
        };
        self.log.append(accounts.into_iter().enumerate().map(event).collect()).await?;
        Ok(request)
    }

    /// What was done about `request`, once it was; `None` if that takes longer than anybody should wait, or nobody knows.
    pub async fn outcome(&self, request: &str) -> Option<Done> {
        let mut ended = self.ended.subscribe();
        let found = async {
            loop {
                let done = self.locked().iter().find(|done| done.request == request).cloned();
                if done.is_some() || ended.changed().await.is_err() {
                    return done;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or(None)
    }

    /// Tells those who wait.
    pub(super) fn done(&self, done: Done) {
        {
            let mut recent = self.locked();
            if recent.len() >= MAX_DONE {
                recent.pop_front();
            }
            recent.push_back(done);
        }
        self.ended.send_replace(());
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, VecDeque<Done>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of nothing that is known of the account.
fn random_id(clock: &Clock) -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without entropy: by the time, which is enough to tell two people apart.
        bytes = clock.now().0.to_be_bytes().repeat(2).try_into().unwrap_or(bytes);
    }
    format!("forget_{}", uuid::Builder::from_random_bytes(bytes).into_uuid().simple())
}
