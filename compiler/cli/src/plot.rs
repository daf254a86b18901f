//! A plot of a few labelled points as SVG: two axes from zero, steps between the points.

use std::fmt::Write as _;

/// A point with what is written beside it.
#[derive(Debug, Clone)]
pub struct Mark {
    pub x: f64,
    pub y: f64,
    pub label: String,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 60.0;
const MARGIN: f64 = 30.0;

/// The drawing. Points come in the order of their `x`.
#[must_use]
pub fn svg(marks: &[Mark], x_title: &str, y_title: &str) -> String {
    let (x_step, x_top) = axis(marks.iter().map(|mark| mark.x));
    let (y_step, y_top) = axis(marks.iter().map(|mark| mark.y));
    let x = |value: f64| LEFT + value / x_top * (WIDTH - LEFT - MARGIN);
    let y = |value: f64| HEIGHT - BOTTOM - value / y_top * (HEIGHT - BOTTOM - MARGIN);
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a text does not fail.
        let _ = writeln!(out, "{text}");
    };
    line(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    line(format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>"));
    for step in ticks(x_step, x_top) {
        let (at, top, bottom) = (x(step), y(y_top), y(0.0));
        line(format_args!(
            "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{step}</text>",
            bottom + 18.0
        ));
    }
    for step in ticks(y_step, y_top) {
        let (at, left, right) = (y(step), x(0.0), x(x_top));
        line(format_args!(
            "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{step}</text>",
            left - 8.0,
            at + 4.0
        ));
    }
    let (middle, below) = (x(x_top / 2.0), HEIGHT - 16.0);
    line(format_args!(
        "<text x=\"{middle:.1}\" y=\"{below:.1}\" text-anchor=\"middle\">{}</text>",
        escaped(x_title)
    ));
    line(format_args!("<text x=\"16\" y=\"16\">{}</text>", escaped(y_title)));
    let mut path = String::new();
    for (index, mark) in marks.iter().enumerate() {
        let (x, y) = (x(mark.x), y(mark.y));
        let _ = if index == 0 { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "H{x:.1}V{y:.1}") };
    }
    line(format_args!("<path d=\"{path}\" fill=\"none\" stroke=\"#36c\"/>"));
    for mark in marks {
        let (x, y) = (x(mark.x), y(mark.y));
        line(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#36c\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 6.0,
            y - 6.0,
            escaped(&mark.label)
        ));
    }
    line(format_args!("</svg>"));
    out
}

/// Distance of ticks, and where an axis from zero ends: 1, 2 or 5 times a power of ten.
fn axis(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let most = values.fold(0.0, f64::max);
    let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
    let power = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| step * 6.0 >= most);
    let step = step.unwrap_or(most);
    (step, step * ((most / step).floor() + 1.0))
}

fn ticks(step: f64, top: f64) -> impl Iterator<Item = f64> {
    (0..)
        .map(move |index| f64::from(index) * step)
        .take_while(move |&value| value <= top * 1.000_001)
        .take(16)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_within_the_drawing() {
        let mark = |x, y| Mark { x, y, label: "a<b".to_owned() };
        for marks in [vec![], vec![mark(0.0, 0.0)], vec![mark(72.9, 185.0), mark(5400.0, 0.0)]] {
            let text = svg(&marks, "ns", "flips");
            assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
            assert_eq!(text.matches("<circle").count(), marks.len());
            assert_eq!(text.matches("a&lt;b").count(), marks.len());
            for part in text.split("cx=\"").skip(1) {
                let x: f64 = part.split('"').next().unwrap().parse().unwrap();
                let y: f64 = part.split("cy=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
                assert!((LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT - BOTTOM).contains(&y), "{x} {y}");
            }
        }
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(axis([72.9, 30.0].into_iter()), (20.0, 80.0));
        assert_eq!(axis([5400.0].into_iter()), (1000.0, 6000.0));
        let (step, top) = axis([0.0].into_iter());
        assert!((step - 0.2).abs() < 1e-9 && (top - 1.2).abs() < 1e-9, "{step} {top}");
        assert_eq!(ticks(20.0, 80.0).collect::<Vec<_>>(), [0.0, 20.0, 40.0, 60.0, 80.0]);
    }
}
