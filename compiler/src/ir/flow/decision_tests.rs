//! Diagrams against truth tables.

use proptest::prelude::*;

use super::*;

/// A condition over two flags, a direction and a field of eight values.
#[derive(Debug, Clone)]
enum Words {
    Forward,
    Flag(u8),
    Below(u64),
    Is(u64),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// The values of a packet: direction, flags, field.
type Packet = (bool, u8, u64);

fn packets() -> impl Iterator<Item = Packet> {
    (0..64_u64).map(|bits| (bits & 1 != 0, u8::try_from(bits >> 1 & 3).unwrap(), bits >> 3))
}

impl Words {
    fn holds(&self, packet: Packet) -> bool {
        match self {
            Self::Forward => !packet.0,
            Self::Flag(bit) => packet.1 & bit != 0,
            Self::Below(value) => packet.2 < *value,
            Self::Is(value) => packet.2 == *value,
            Self::Not(inner) => !inner.holds(packet),
            Self::And(one, other) => one.holds(packet) && other.holds(packet),
            Self::Or(one, other) => one.holds(packet) || other.holds(packet),
        }
    }

    fn diagram(&self) -> Diagram {
        let ask = |holds: &dyn Fn(u64) -> bool| {
            Diagram::ask(Variable::Field(Field::IpTtl), &[0, 1, 2, 3, 4, 5, 6, 7], holds)
        };
        match self {
            Self::Forward => Diagram::direction(Direction::Forward),
            Self::Flag(bit) => Diagram::flag(*bit, true),
            Self::Below(value) => ask(&|v| v < *value),
            Self::Is(value) => ask(&|v| v == *value),
            Self::Not(inner) => inner.diagram().not(),
            Self::And(one, other) => one.diagram().and(&other.diagram()).unwrap(),
            Self::Or(one, other) => one.diagram().or(&other.diagram()).unwrap(),
        }
    }
}

fn value(packet: Packet) -> impl Fn(Variable) -> u64 {
    move |variable| match variable {
        Variable::Backward => u64::from(packet.0),
        Variable::Flag(bit) => u64::from(packet.1 & bit != 0),
        Variable::Field(_) => packet.2,
    }
}

fn words() -> impl Strategy<Value = Words> {
    let leaf = prop_oneof![
        Just(Words::Forward),
        prop_oneof![Just(1_u8), Just(2)].prop_map(Words::Flag),
        (1..8_u64).prop_map(Words::Below),
        (0..8_u64).prop_map(Words::Is),
    ];
    leaf.prop_recursive(5, 24, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| Words::Not(Box::new(one))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Words::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Words::Or(Box::new(a), Box::new(b))),
        ]
    })
}

proptest! {
    #[test]
    fn a_diagram_is_its_truth_table_and_nothing_else(one in words(), other in words()) {
        let (first, second) = (one.diagram(), other.diagram());
        for packet in packets() {
            prop_assert_eq!(first.holds(value(packet)), one.holds(packet));
        }
        let same = packets().all(|packet| one.holds(packet) == other.holds(packet));
        prop_assert_eq!(first == second, same);
        // Double negation gives the numbering of construction.
        prop_assert_eq!(&first.not().not(), &first);
        prop_assert_eq!(first.is_never(), packets().all(|packet| !one.holds(packet)));
        prop_assert_eq!(first.is_always(), packets().all(|packet| one.holds(packet)));
    }

    #[test]
    fn a_filter_is_the_same_condition_taken_apart(one in words()) {
        let diagram = one.diagram();
        let Some(filter) = Filter::of(&diagram) else {
            prop_assert!(diagram.is_never());
            return Ok(());
        };
        prop_assert_eq!(&filter.diagram().unwrap(), &diagram);
        prop_assert_eq!(Filter::of(&filter.diagram().unwrap()).unwrap(), filter);
    }
}

#[test]
fn what_all_packets_have_in_common_stands_by_itself() {
    let syn = Diagram::flag(2, true);
    let open =
        syn.and(&Diagram::flag(16, false)).unwrap().and(&Diagram::direction(Direction::Forward)).unwrap();
    let filter = Filter::of(&open).unwrap();
    assert_eq!((filter.direction, filter.flags_set, filter.flags_clear), (Some(Direction::Forward), 2, 16));
    assert!(filter.rest.is_always());
    assert_eq!(Filter::of(&Diagram::ALWAYS), Some(Filter::default()));
    assert_eq!(Filter::of(&Diagram::NEVER), None);
}

#[test]
fn conditions_beyond_the_limit_are_refused() {
    // Which of many pairs of ports agree in one bit: the diagram must remember each bit of the first.
    let ask = |field, bit: u64| {
        let ends: Vec<u64> = (0..1024).collect();
        Diagram::ask(Variable::Field(field), &ends, move |value| value >> bit & 1 == 1)
    };
    let mut all = Ok(Diagram::ALWAYS);
    for bit in 0..10 {
        let (one, other) = (ask(Field::SrcPort, bit), ask(Field::DstPort, bit));
        let same = one.and(&other).and_then(|both| both.or(&one.not().and(&other.not())?));
        all = all.and_then(|all| all.and(&same?));
    }
    assert_eq!(all, Err(TooLarge));
}
