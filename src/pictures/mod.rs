//! Pictures of services: SVG in one file, without a script, light and dark by the reader's
//! setting. For the command line and for the page; what they show comes from wire types.

pub(crate) mod graph;
pub(crate) mod svg;
pub(crate) mod timeline;
pub(crate) mod words;
pub(crate) mod xml;
