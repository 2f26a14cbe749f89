//! The macro by which a key is written once.

/// A section that stands at most once. Each key is written once, and becomes three things: a field of
/// the struct, its reading in `build`, and its row in `SECTION`, from which the documentation, the
/// schema, the dump and what a reload may change are made.
///
/// `field: Type { .. }` is a key that is read as it is. `field: Type = read { .. }` is read by a function
/// of the table and the key. `field as "key": ..` has another name in the file. A `key { .. }` without a
/// type is no field: what it says is part of one that `; field: Type = read;` makes of several.
/// `fill Type` in place of `pub struct Type` is for a struct of the core.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $type:ident in $section:literal; about: $about:literal; later: $later:expr;
        $($rows:tt)+
    ) => {
        section! { @fields [$(#[$meta])*] $type {} $($rows)+ }
        section! { fill $type in $section; about: $about; later: $later; $($rows)+ }
    };
    (
        fill $type:ident in $section:literal; about: $about:literal; later: $later:expr;
        $($rows:tt)+
    ) => {
        section! { @rows $section $about $later, $($rows)+ }

        pub(super) fn build(
            table: &$crate::config::draft::SectionValues,
        ) -> Result<$type, $crate::config::draft::Broken> {
            section! { @values table $type {} $($rows)+ }
        }
    };

    // The rows of the section.
    (
        @rows $section:literal $about:literal $later:expr,
        $($(#[$doc:meta])* $field:ident $(as $key:literal)? $(: $value:ty $(= $read:path)?)? {
            kind: $kind:expr,
            default: $default:expr,
            applies: $applies:ident,
            about: $text:literal,
        })+
        $(; $($derived:tt)*)?
    ) => {
        pub const SECTION: $crate::config::keys::Section = $crate::config::keys::Section {
            name: $section,
            shape: $crate::config::keys::Shape::Once,
            about: $about,
            keys: &[$($crate::config::keys::Key {
                name: section!(@name $field $($key)?),
                kind: $kind,
                default: $default,
                applies: $crate::config::keys::Applies::$applies,
                about: $text,
            }),+],
            later: $later,
        };
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $key:literal) => { $key };

    // The struct, row by row.
    (@fields [$(#[$meta:meta])*] $type:ident { $($done:tt)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $type { $($done)* }
    };
    (@fields [$($meta:tt)*] $type:ident { $($done:tt)* }
        ; $(#[$doc:meta])* $field:ident: $value:ty = $make:path; $($rest:tt)*) => {
        section! { @fields [$($meta)*] $type { $($done)* $(#[$doc])* pub $field: $value, } $($rest)* }
    };
    (@fields [$($meta:tt)*] $type:ident { $($done:tt)* }
        $field:ident { $($row:tt)* } $($rest:tt)*) => {
        section! { @fields [$($meta)*] $type { $($done)* } $($rest)* }
    };
    (@fields [$($meta:tt)*] $type:ident { $($done:tt)* }
        $(#[$doc:meta])* $field:ident $(as $key:literal)?: $value:ty $(= $read:path)? { $($row:tt)* }
        $($rest:tt)*) => {
        section! { @fields [$($meta)*] $type { $($done)* $(#[$doc])* pub $field: $value, } $($rest)* }
    };

    // Their values, row by row.
    (@values $table:ident $type:ident { $($done:tt)* }) => { Ok($type { $($done)* }) };
    (@values $table:ident $type:ident { $($done:tt)* }
        ; $(#[$doc:meta])* $field:ident: $value:ty = $make:path; $($rest:tt)*) => {
        section! { @values $table $type { $($done)* $field: $make($table)?, } $($rest)* }
    };
    (@values $table:ident $type:ident { $($done:tt)* }
        $field:ident { $($row:tt)* } $($rest:tt)*) => {
        section! { @values $table $type { $($done)* } $($rest)* }
    };
    (@values $table:ident $type:ident { $($done:tt)* }
        $(#[$doc:meta])* $field:ident $(as $key:literal)?: $value:ty { $($row:tt)* }
        $($rest:tt)*) => {
        section! { @values $table $type {
            $($done)* $field: $table.get(section!(@name $field $($key)?))?,
        } $($rest)* }
    };
    (@values $table:ident $type:ident { $($done:tt)* }
        $(#[$doc:meta])* $field:ident $(as $key:literal)?: $value:ty = $read:path { $($row:tt)* }
        $($rest:tt)*) => {
        section! { @values $table $type {
            $($done)* $field: $read($table, section!(@name $field $($key)?))?,
        } $($rest)* }
    };
}
pub(super) use section;
