//! What a restart finds again.

use super::*;
use crate::metrics::Metrics;

async fn opened(directory: &std::path::Path, max_entries: usize) -> (Store, Aliases, Keeper) {
    let store = Store::open(directory, &[SCHEMA]).unwrap();
    let (aliases, keeper) =
        Keeper::open(store.clone(), &Config { max_entries }, &Metrics::new().unwrap().alias).await.unwrap();
    (store, aliases, keeper)
}

fn learn(aliases: &Aliases, number: u8) {
    let user = format!("user_{number}");
    aliases.0.learn(&"ins_1".into(), &user, IdentifierHash([number; 16]), Timestamp(i64::from(number)));
}

fn known(aliases: &Aliases) -> Vec<u8> {
    (0..=255).filter(|it| aliases.0.user(&"ins_1".into(), IdentifierHash([*it; 16])).is_some()).collect()
}

#[tokio::test]
async fn links_are_there_after_a_restart_and_those_of_the_forgotten_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let (store, aliases, keeper) = opened(directory.path(), 1000).await;
    (1..=5).for_each(|number| learn(&aliases, number));
    assert_eq!(aliases.forget(&"ins_1".into(), "user_3"), [IdentifierHash([3; 16])]);
    let stop = CancellationToken::new();
    stop.cancel();
    keeper.run(stop).await;
    store.close();
    drop((aliases, store));
    let (store, aliases, _) = opened(directory.path(), 1000).await;
    assert_eq!(known(&aliases), [1, 2, 4, 5]);
    let forgotten = store.write(|transaction| forget(transaction, &"ins_1".into(), "user_4"));
    assert_eq!(forgotten.await.unwrap(), [IdentifierHash([4; 16])]);
    store.close();
    drop((aliases, store));
    // With less room than there are: the oldest go, for good.
    let (store, aliases, _) = opened(directory.path(), 2).await;
    assert_eq!(known(&aliases), [2, 5]);
    store.close();
    drop((aliases, store));
    assert_eq!(known(&opened(directory.path(), 1000).await.1), [2, 5]);
}

#[tokio::test]
async fn what_cannot_be_written_is_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let (store, aliases, mut keeper) = opened(directory.path(), 1000).await;
    let turn = |statement: &'static str| store.write(move |transaction| transaction.execute_batch(statement));
    turn("ALTER TABLE alias RENAME TO elsewhere").await.unwrap();
    learn(&aliases, 1);
    assert!(!keeper.keep_some().await);
    turn("ALTER TABLE elsewhere RENAME TO alias").await.unwrap();
    assert!(!keeper.keep_some().await);
    let rows: i64 =
        store.read(|connection| connection.query_row("SELECT count(*) FROM alias", [], |row| row.get(0))).unwrap();
    assert_eq!(rows, 1);
}
