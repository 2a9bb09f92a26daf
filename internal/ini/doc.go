// Package ini reads configuration files in the dialect of OpenStack's oslo.config, so that a cinder.conf means to us what
// it means to Cinder.
//
// The rules are those of oslo_config/iniparser.py and oslo_config/cfg.py:
//
//   - A line is a section "[name]", a comment that begins with # or ; in the first column, or an assignment. The key ends
//     at the first = or : of the line. Spaces around key and value do not count.
//   - There are no comments behind a value: "a = b # c" has the value "b # c".
//   - One pair of quotes around the whole value is taken away, " or ', if both ends match.
//   - A line that begins with a space or tab continues the value above it, after a newline. An empty line or a comment
//     ends a value. Quotes are those of the first line alone.
//   - Keys keep their case. Section names do not, but for DEFAULT, which is only itself.
//   - A key may be set several times, in one file or several: the last one counts, unless the option takes many values,
//     which keeps them all in order.
//   - $name, ${name} and ${section.name} stand for other values, and $$ or \$ for a dollar sign. That is a step of its own
//     (File.Expand), because only the reader of an option knows whether it wants it.
//
// Each value keeps the file and line it came from, so that a message about it can say where to look.
package ini
