//! The sketch against the set itself.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// The members of run `run`: consecutive numbers, the least hash-like input there is.
fn sketch_of(run: u64, members: u64) -> Sketch {
    let mut sketch = Sketch::default();
    for member in 0..members {
        sketch.add(run << 32 | member);
    }
    sketch
}

fn of(members: &[u64]) -> Sketch {
    let mut sketch = Sketch::default();
    for member in members {
        sketch.add(*member);
    }
    sketch
}

proptest! {
    #[test]
    fn up_to_64_members_the_count_is_exact(members in prop::collection::vec(0..80_u64, 0..200)) {
        let distinct = members.iter().collect::<BTreeSet<_>>().len() as u64;
        let sketch = of(&members);
        prop_assert_eq!(sketch.is_exact(), distinct <= 64);
        if sketch.is_exact() {
            prop_assert_eq!(sketch.estimate(), distinct);
        }
    }

    #[test]
    fn it_depends_on_the_set_alone(members in prop::collection::vec(0..400_u64, 0..400), turn in 0..400_usize) {
        let once = of(&members.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        let mut turned = members.clone();
        turned.rotate_left(turn % members.len().max(1));
        turned.reverse();
        turned.extend(members);
        prop_assert_eq!(of(&turned), once);
    }

    #[test]
    fn merging_is_the_union(
        left in prop::collection::vec(0..500_u64, 0..150), right in prop::collection::vec(300..800_u64, 0..150),
    ) {
        let mut merged = of(&left);
        merged.merge(&of(&right));
        let mut other_way = of(&right);
        other_way.merge(&of(&left));
        prop_assert_eq!(&merged, &other_way);
        prop_assert_eq!(merged, of(&[left, right].concat()));
    }

    #[test]
    fn adding_says_truly_whether_anything_changed(members in prop::collection::vec(0..300_u64, 0..300)) {
        let mut sketch = Sketch::default();
        for member in members {
            let before = sketch.clone();
            prop_assert_eq!(sketch.add(member), sketch != before);
        }
    }
}

#[test]
fn the_error_is_what_the_head_says() {
    let standard_error = 1.04 / (2048.0_f64).sqrt();
    for (members, runs) in [(100_u64, 200_u64), (1000, 200), (10_000, 100), (1_000_000, 6)] {
        let errors: Vec<f64> =
            (0..runs).map(|run| sketch_of(run + 1, members).estimate() as f64 / members as f64 - 1.0).collect();
        let mean = errors.iter().sum::<f64>() / runs as f64;
        let spread = (errors.iter().map(|error| error * error).sum::<f64>() / runs as f64).sqrt();
        let worst = errors.iter().fold(0.0_f64, |worst, error| worst.max(error.abs()));
        println!("{members}: mean {mean:+.4}, root mean square {spread:.4}, worst {worst:.4}");
        assert!(worst <= 3.0 * standard_error, "{members}: {worst}");
        assert!(spread <= 1.15 * standard_error, "{members}: {spread}");
        assert!(mean.abs() <= 3.0 * standard_error / (runs as f64).sqrt(), "{members}: {mean}");
    }
}

#[test]
fn the_estimator_covers_its_whole_range() {
    assert_eq!(estimate(&Registers::from(vec![0; REGISTERS]).histogram), 0.0);
    let full = estimate(&Registers::from(vec![54; REGISTERS]).histogram);
    assert!(full.is_infinite() || full > 1e19, "{full}");
    // All registers at rank 1 but one at 0: about as many members as fill so many.
    let mut ranks = [1_u8; REGISTERS];
    ranks[0] = 0;
    assert!(estimate(&Registers::from(ranks.to_vec()).histogram).is_finite());
}

#[test]
fn a_snapshot_keeps_its_layout() {
    let exact = of(&[1, 2]);
    assert_eq!(
        postcard::to_stdvec(&exact).unwrap(),
        [0, 2, 231, 135, 154, 168, 134, 196, 202, 223, 58, 172, 150, 139, 166, 195, 159, 175, 171, 180, 1],
        "snapshots of earlier versions must stay readable: raise the version of the snapshot if this has to change"
    );
    let large = sketch_of(1, 500);
    let bytes = postcard::to_stdvec(&large).unwrap();
    assert_eq!((bytes.len(), bytes.first()), (1 + 2 + REGISTERS, Some(&1)));
    assert_eq!(postcard::from_bytes::<Sketch>(&bytes).unwrap(), large);
    assert_eq!(postcard::from_bytes::<Sketch>(&postcard::to_stdvec(&exact).unwrap()).unwrap(), exact);
}

#[test]
fn a_stored_sketch_of_an_impossible_shape_is_refused() {
    let refused = |bytes: &[u8]| postcard::from_bytes::<Sketch>(bytes).is_err();
    assert!(refused(&[0, 2, 9, 5]), "descending");
    assert!(refused(&[1, 3, 0, 0, 0]), "three registers");
    let mut bytes = postcard::to_stdvec(&sketch_of(1, 500)).unwrap();
    bytes[100] = 55;
    assert!(refused(&bytes), "a rank that 53 bits cannot have");
}

#[test]
fn memory_is_bounded() {
    assert!(size_of::<Sketch>() <= 144);
    assert!(sketch_of(1, 64).heap_bytes() <= 512);
    assert_eq!(sketch_of(1, 100_000).heap_bytes(), 2048);
}
