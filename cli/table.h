// A table for a terminal, in the predecessor's geometry, which scripts cut by columns and lines:
//
//   Uuid                                  Name      <- the header; each cell is padded to its column's width
//   ------------------------------------  --------     and two spaces more, the last one too
//   564d5849-b135-1259-cc73-d2d3aa1d9b8c  photon6
//                                                   <- an empty line at the end
//
// Where it is wider than the terminal, the widest columns are narrowed first, and cells are cut with "..".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace vdvs::cli {

/// The sum is at most `total` afterwards: the widest are narrowed to the next widest, those together, and so
/// on. What does not divide evenly is taken from the first of them.
std::vector<std::size_t> shrink_to_fit(std::vector<std::size_t> widths, std::size_t total);

/// The columns of a terminal that a UTF-8 text takes. What is no UTF-8 or cannot be shown counts as one, as
/// clean_text makes it.
std::size_t display_width(std::string_view text);
/// At most `width` columns; one that is cut ends in "..".
std::string cut_to_width(std::string_view text, std::size_t width);
/// Control characters and what is no UTF-8 become '?': names come from guests, and a terminal obeys them.
std::string clean_text(std::string_view text);

std::string render_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows, std::size_t terminal_width);

/// As `stty size` says it: of the terminal at standard input; 80 where there is none.
std::size_t terminal_width();

}  // namespace vdvs::cli
