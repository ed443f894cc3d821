use super::*;
use crate::clock::{Clock, Stopwatch};
use crate::finding::Verdict;
use crate::log::memory::MemoryLog;
use crate::log::{Log, Partition};
use crate::metrics::Metrics;
use crate::pipeline::tests::failure;
use crate::pipeline::{Parts, ShadowBoard, SignalBoard};

fn open(log: &Arc<MemoryLog>) -> Task {
    let metrics = Metrics::new().unwrap();
    let parts = Parts {
        log: Arc::clone(log) as Arc<dyn Log>,
        config: crate::detect::Config::default(),
        clock: Clock::held(Timestamp(1_767_600_020_000)),
        detect_metrics: metrics.detect,
        log_metrics: metrics.log,
        board: Arc::default(),
        shadow: ShadowBoard::default(),
        signals: SignalBoard::default(),
        wake: Arc::new(|| ()),
    };
    Task::open(parts, Partition(0)).unwrap()
}

#[tokio::test]
async fn no_more_than_a_few_wait_each_for_two_seconds_and_nobody_is_answered_who_has_gone() {
    let mut task = open(&Arc::new(MemoryLog::keeping()));
    let questions = Questions::default();
    questions.add(&task);
    let ask = || {
        let questions = questions.clone();
        tokio::spawn(async move { questions.ask("203.0.113.7", None).await })
    };
    let waiting: Vec<_> = (0..MAX_WAITING).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    assert!(matches!(questions.ask("203.0.113.7", None).await, Err(Unanswered::Busy)));
    let begun = Stopwatch::start();
    for asked in waiting {
        assert!(matches!(asked.await.unwrap(), Err(Unanswered::Late)));
    }
    assert!((1900..10_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    task.step(Duration::ZERO).unwrap();
    let asked = ask();
    tokio::task::yield_now().await;
    task.step(Duration::ZERO).unwrap();
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.explanations, answer.note.as_deref()), (Vec::new(), Some(UNKNOWN)));
    drop(task);
    assert!(matches!(questions.ask("203.0.113.7", None).await, Err(Unanswered::Stopped)));
}

#[tokio::test]
async fn it_answers_with_its_findings_even_while_the_log_cannot_be_read_or_written() {
    let log = Arc::new(MemoryLog::keeping());
    let mut task = open(&log);
    log.append((0..12).map(failure).collect()).await.unwrap();
    task.step(Duration::ZERO).unwrap();
    let questions = Questions::default();
    questions.add(&task);
    log.append(vec![failure(12)]).await.unwrap();
    log.set_fault(Some("disk is full"));
    let asked = tokio::spawn(async move { questions.ask("203.0.113.7", Some("ins_1")).await });
    tokio::task::yield_now().await;
    // Whatever the log does.
    let _ = task.step(Duration::ZERO);
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.entity.as_str(), answer.watermark), ("203.0.113.7", Timestamp(1_767_600_011_000)));
    assert_eq!(answer.explanations[0].verdict, Verdict::Spike);
    assert_eq!(
        answer.findings.iter().map(|found| Some(found.finding_id)).collect::<Vec<_>>(),
        [answer.explanations[0].finding]
    );
    assert_eq!(answer.note, None);
}
