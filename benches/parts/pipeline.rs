//! The path of a replay: lines to events to the log in memory to the task, on one core.

use std::sync::Arc;
use std::time::Duration;

use authspike::clock::Clock;
use authspike::detect::Config;
use authspike::event::Timestamp;
use authspike::log::memory::MemoryLog;
use authspike::log::{Log, Partition};
use authspike::metrics::Metrics;
use authspike::normalize::attempt;
use authspike::normalize::identifier::IdentifierKey;
use authspike::pipeline::{Parts, ShadowBoard, SignalBoard, Task};
use authspike::simulate::render::Renderer;
use authspike::simulate::{Load, Plan, Traffic};
use criterion::{BatchSize, Criterion, Throughput};

const LINES: usize = 50_000;

fn lines() -> Vec<Vec<u8>> {
    let plan = Plan {
        seed: 1,
        start: Timestamp(1_767_571_200_000),
        span_millis: None,
        tenant: "ins_simulated".to_owned(),
        accounts: 50_000,
        load: Load::PerSecond(50.0),
        lockout: 10,
        attacks: Vec::new(),
        benign: Vec::new(),
    };
    let mut renderer = Renderer::new(&plan);
    Traffic::new(&plan)
        .unwrap()
        .take(LINES)
        .map(|attempt| {
            let mut line = Vec::new();
            renderer.write(&attempt, &mut line, &mut Vec::new()).unwrap();
            line
        })
        .collect()
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let (lines, key) = (lines(), IdentifierKey::new(&[7; 32]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(LINES as u64)).sample_size(20);
    group.bench_function("replay", |bencher| {
        bencher.iter_batched(
            || {
                let (log, metrics) = (Arc::new(MemoryLog::streaming()), Metrics::new().unwrap());
                let parts = Parts {
                    log: Arc::clone(&log) as Arc<dyn Log>,
                    config: Config::default(),
                    clock: Clock::system(),
                    detect_metrics: metrics.detect,
                    log_metrics: metrics.log,
                    board: Arc::default(),
                    shadow: ShadowBoard::default(),
                    signals: SignalBoard::default(),
                    wake: Arc::new(|| ()),
                };
                (Task::open(parts, Partition(0)).unwrap(), log)
            },
            |(mut task, log)| {
                for batch in lines.chunks(4096) {
                    let events = batch.iter().map(|line| attempt::normalize(line, None, &key).unwrap().event);
                    runtime.block_on(log.append(events.collect())).unwrap();
                    task.step(Duration::ZERO).unwrap();
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}
