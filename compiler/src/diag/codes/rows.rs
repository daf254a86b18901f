//! Codes of feature rows: `E05xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[
    &NOT_A_NUMBER,
    &MISSING_COLUMN,
    &RAGGED,
    &EMPTY,
    &DUPLICATE_COLUMN,
    &COLUMN_COUNT,
    &ENCODING,
    &NO_LABEL,
    &CLASSES,
    &FEW_ROWS,
];

pub static NOT_A_NUMBER: Code = Code {
    id: "E0501",
    title: "a cell is not a finite decimal number",
    explanation: "Cells are decimal numbers such as `17`, `-0.25` or `1.5e6`. NaN and infinities have no place \
                  in a feature: the kernel never computes one. Replace the cell, or drop its row.",
};

pub static MISSING_COLUMN: Code = Code {
    id: "E0502",
    title: "a feature has no column",
    explanation: "With a specification, columns are matched by the feature's name. Rename the column or the \
                  feature; other columns are ignored.",
};

pub static RAGGED: Code = Code {
    id: "E0503",
    title: "a row has another number of cells than the first",
    explanation: "Every row has as many cells as the header. A missing comma, or a text with an unquoted comma, \
                  is the usual cause.",
};

pub static EMPTY: Code = Code {
    id: "E0504",
    title: "the file has no rows",
    explanation: "There is nothing to judge or to calibrate on.",
};

pub static DUPLICATE_COLUMN: Code = Code {
    id: "E0505",
    title: "two columns bear a feature's name",
    explanation: "It is not clear which of them feeds the feature. Rename one of them.",
};

pub static COLUMN_COUNT: Code = Code {
    id: "E0506",
    title: "the file has another number of columns than the model has inputs",
    explanation: "Without a specification, columns feed the model's inputs by position, so there must be exactly \
                  one for each. Give a specification to match them by name, or remove the others.",
};

pub static ENCODING: Code = Code {
    id: "E0507",
    title: "the file is not readable as CSV",
    explanation: "The file must be UTF-8 text with cells separated by commas.",
};

pub static NO_LABEL: Code = Code {
    id: "E0508",
    title: "a row has no label",
    explanation: "Ranking features needs the class of every row, in the column that `--labels` names. The file \
                  has no such column, or a cell of it is empty.",
};

pub static CLASSES: Code = Code {
    id: "E0509",
    title: "the labels are no classes",
    explanation: "Features are ranked by how well they tell classes apart, which takes at least two of them. More \
                  than 64 different values are most likely numbers; name the column that holds the class.",
};

pub static FEW_ROWS: Code = Code {
    id: "E0510",
    title: "a class has too few rows",
    explanation: "A part of every class is held out to see what a feature is worth on rows that the tree has not \
                  seen, so every class has at least 5 rows. Add rows, drop the class, or join it with another.",
};
