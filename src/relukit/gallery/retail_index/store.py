"""A day's file into the index within seconds: a DuckDB file that counts each payment once and survives being stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relukit._errors import UnreadableFile
from relukit.gallery.retail_index import _text
from relukit.gallery.retail_index.volume import BATCH, Scorer, columns, daily_sums, saved, saved_memory

_TABLES = """
create table if not exists seen (key uhugeint, occurrence integer, primary key (key, occurrence));
create table if not exists daily (date timestamp_s, category varchar, spent double, variance double, payments double);
create table if not exists files (name varchar, rows_in_file bigint, rows_new bigint);
"""


class Store:
    """Daily sums by category, and a mark for each payment counted.

    A payment is known by its `transaction_id`, where the file has one, else by all that is said of it and by how many alike came
    before it in the same file: two equal bus fares in one file are two payments, and the same file twice is still two. A file is
    added in one database transaction, so that it counts wholly or not at all.

    Arguments:
        path: The DuckDB file; made if it is not there.
        out: Folder of the trained study.
    """

    def __init__(self, path: str | Path, out: str | Path) -> None:
        import duckdb

        try:
            self.database = duckdb.connect(str(path))
        except duckdb.Error as error:
            raise UnreadableFile(f"{path} is not a store of daily sums: {error}") from None
        self.database.execute(_TABLES)
        net, self.names = saved(Path(out), 0)
        self.scorer = Scorer(net, saved_memory(Path(out)))

    def add(self, files: Sequence[str | Path]) -> list[dict[str, Any]]:
        """Count the payments of `files` that were not counted before.

        Returns:
            `file`, `rows`, `new` of each.
        """
        report = []
        for file in map(Path, files):
            rows, new = self._add_one(file)
            report.append({"file": str(file), "rows": rows, "new": new})
        return report

    def _add_one(self, file: Path) -> tuple[int, int]:
        table = _payments(file)
        self.database.execute("begin transaction")
        try:
            self.database.register("incoming", table)
            key = (
                "md5_number('id' || transaction_id)" if "transaction_id" in table
                else "md5_number(concat_ws('|', date, amount, merchant, directorate))"
            )  # fmt: skip
            self.database.execute(f"""
                create or replace temp table fresh as
                with keyed as (select *, {key} as key from incoming),
                     numbered as (select *, row_number() over (partition by key) as occurrence from keyed)
                select n.* from numbered n anti join seen s on n.key = s.key and n.occurrence = s.occurrence
                {"where n.occurrence = 1" if "transaction_id" in table else ""}
            """)
            new = self.database.sql(f"select {', '.join(_text.COLUMNS)} from fresh").to_arrow_table()
            sums = daily_sums(self.scorer, self.names, map(columns, new.to_batches(BATCH)))
            if len(sums):
                self.database.register("sums", sums)
                self.database.execute("insert into daily select date, category, spent, variance, payments from sums")
            self.database.execute("insert into seen select key, occurrence from fresh")
            self.database.execute("insert into files values (?, ?, ?)", [str(file), len(table), new.num_rows])
            self.database.execute("commit")
        except BaseException:
            self.database.execute("rollback")
            raise
        finally:
            for name in ("incoming", "sums"):
                self.database.unregister(name)
        return len(table), new.num_rows

    def daily(self) -> Any:
        """All sums so far: `date`, `category`, `spent`, `variance`, `payments`."""
        return self.database.execute(
            "select date, category, sum(spent) as spent, sum(variance) as variance, sum(payments) as payments "
            "from daily group by date, category order by date, category"
        ).df()

    def counted(self) -> int:
        row = self.database.execute("select count(*) from seen").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        self.database.close()


def _payments(file: Path) -> Any:
    table = _text.read(file, "transaction_id")
    own = [c for c in ("merchant", "directorate", "transaction_id") if c in table]
    return table.assign(**{c: table[c].fillna("").astype(str) for c in own}).drop(columns="category", errors="ignore")
