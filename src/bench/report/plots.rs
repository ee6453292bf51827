//! Charts of one figure over another: loss over rate, latency over percentile, burst over repetition.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::report::axis::Axis;
use crate::report::svg::{Failed, Layout, Role, TEXT_PX, drawing, ink, width_px};

/// Drawn over the mesh, in order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Through all points.
    Line(Vec<(f64, f64)>, Role, Weight),
    /// (x, low, median, high): how far a point can be trusted.
    Interval(f64, [f64; 3], Role),
    /// A point; hollow: it is not the receiver's doing.
    Point(f64, f64, Role, bool),
    /// A value of x that matters, with its name.
    Mark(f64, String),
    /// A value of y that matters, over the whole width.
    Level(f64, Role),
}

/// How much a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// One of several.
    Light,
    /// The one that holds the others.
    Heavy,
}

/// A chart: axes and what is on them.
#[derive(Debug)]
pub(crate) struct Plot<'a> {
    /// Across.
    pub(crate) x: Axis,
    /// Up.
    pub(crate) y: Axis,
    /// What they measure.
    pub(crate) titles: (&'a str, &'a str),
    /// In the order they are drawn.
    pub(crate) shapes: &'a [Shape],
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

impl Plot<'_> {
    /// As SVG.
    pub(crate) fn draw(&self, layout: Layout) -> Result<String, Failed> {
        let size = (layout.width(), layout.pick(360, 300));
        let left = self.y.names().map(width_px).max().unwrap_or(0) + 14;
        let marks = self.shapes.iter().any(|shape| matches!(shape, Shape::Mark(..)));
        let top = 28 + if marks { 36 } else { 0 };
        drawing(size, |root| {
            let mut chart = ChartBuilder::on(root)
                .margin_top(top)
                .margin_right(layout.pick(28, 20))
                .margin_bottom(TEXT_PX + 10)
                .x_label_area_size(24)
                .y_label_area_size(left)
                .build_cartesian_2d(self.x.clone(), self.y.clone())?;
            chart
                .configure_mesh()
                .bold_line_style(Role::Grid.color())
                .light_line_style(TRANSPARENT)
                .axis_style(Role::Muted.color())
                .x_label_style(ink(Role::Muted, HPos::Center, VPos::Top))
                .y_label_style(ink(Role::Muted, HPos::Right, VPos::Center))
                .set_all_tick_mark_size(4)
                .draw()?;
            for shape in self.shapes {
                shape.draw(&mut chart)?;
            }
            let (x_title, y_title) = self.titles;
            let right = i32::try_from(size.0).unwrap_or(i32::MAX) - layout.pick(28, 20);
            let bottom = i32::try_from(size.1).unwrap_or(i32::MAX) - TEXT_PX - 6;
            let style = ink(Role::Muted, HPos::Right, VPos::Top);
            root.draw(&Text::new(x_title.to_owned(), (right, bottom), style))?;
            let style = ink(Role::Muted, HPos::Left, VPos::Top);
            root.draw(&Text::new(y_title.to_owned(), (0, 2), style))?;
            self.names(root, &chart, layout)
        })
    }

    /// Names of the marks, above the plot; where two would meet, the later goes above the other.
    fn names(
        &self,
        root: &crate::report::svg::Area<'_>,
        chart: &Chart<'_, '_>,
        layout: Layout,
    ) -> Result<(), Failed> {
        let width = i32::try_from(layout.width()).unwrap_or(i32::MAX);
        let mut taken: Vec<(i32, i32)> = Vec::new();
        for shape in self.shapes {
            let Shape::Mark(x, name) = shape else { continue };
            let (at, _) = chart.backend_coord(&(*x, 0.0));
            let half = width_px(name) / 2;
            let middle = at.clamp(half.min(width / 2), (width - half).max(width / 2));
            let span = (middle - half - 4, middle + half + 4);
            let meets = taken.iter().any(|(from, to)| span.0 < *to && *from < span.1);
            taken.push(span);
            let style = ink(Role::Ink, HPos::Center, VPos::Top);
            let y = if meets { 26 } else { 44 };
            root.draw(&Text::new(name.clone(), (middle, y), style))?;
        }
        Ok(())
    }
}

impl Shape {
    fn draw(&self, chart: &mut Chart<'_, '_>) -> Result<(), Failed> {
        let plane = chart.plotting_area();
        match self {
            Self::Line(points, role, weight) => {
                let width = match weight {
                    Weight::Light => 2,
                    Weight::Heavy => 3,
                };
                plane.draw(&PathElement::new(points.clone(), role.color().stroke_width(width)))
            }
            Self::Interval(x, [low, median, high], role) => {
                let style = role.color().stroke_width(2);
                let y = (*low, *median, *high);
                plane.draw(&ErrorBar::new_vertical(*x, y.0, y.1, y.2, style, 8))
            }
            Self::Point(x, y, role, hollow) => {
                let style: ShapeStyle =
                    if *hollow { role.color().stroke_width(2) } else { role.color().filled() };
                plane.draw(&Circle::new((*x, *y), 4, style))
            }
            Self::Mark(x, _) => {
                let (_, y) = plane.get_pixel_range();
                let top = plane.strip_coord_spec();
                let (base_x, base_y) = plane.get_base_pixel();
                let (at, _) = plane.map_coordinate(&(*x, 0.0));
                let (from, to) = ((at - base_x, 0), (at - base_x, y.end - base_y));
                top.draw(&PathElement::new([from, to], Role::Ink.color()))
            }
            Self::Level(y, role) => {
                let (x, _) = plane.get_pixel_range();
                let top = plane.strip_coord_spec();
                let (base_x, base_y) = plane.get_base_pixel();
                let (_, at) = plane.map_coordinate(&(0.0, *y));
                let ends = [(0, at - base_y), (x.end - base_x, at - base_y)];
                top.draw(&PathElement::new(ends, role.color().stroke_width(2)))
            }
        }
    }
}
