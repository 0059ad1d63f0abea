"""The report kit: one page, table, chart, palette and verdict line for every report that distila writes.

A report builds a `document.Page` from its results and calls `document.write_page`; it draws with `chart`, `table`,
`palette` and `number_text`, and never writes HTML or formats a number by itself.
"""
