"""Lines of a landed CSV to typed readings, strictly. Pure: DataFrame in, DataFrame out."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - everyone's name for it

from feature_store.landed import DAY, LARGEST, NUMBER, WHOLE_NUMBER, Header
from feature_store.view import FeatureView, Measure, Type

REASON = "reason"

# A field is in quotes, with any quote in it doubled, or has no quote at all.
FIELD = r'(?:"[^"]*(?:""[^"]*)*"|[^",]*)'
QUOTED_LINE = f"^{FIELD}(?:,{FIELD})*$"
# A comma with an even number of quotes after it stands outside of them.
SEPARATOR = r',(?=(?:[^"]*"[^"]*")*[^"]*$)'


def parse(lines: DataFrame, header: Header, view: FeatureView) -> DataFrame:
    """Type every line that is not blank.

    A file's header line is never a reading, so it comes out as malformed: who counts lines or numbers them needs it.

    Args:
        lines: a column `value` with the line, and any others, which are kept.
        header: of the files that the lines are from.
        view: whose readings they are.

    Returns:
        The other columns, `raw` (the line), the view's reading columns, and `reason`: null for a good reading,
        otherwise what is wrong, with all reading columns null.
    """
    others = [column for column in lines.columns if column != "value"]
    value = F.col("value")
    quoted = value.contains('"')
    split = F.when(quoted, F.split(value, SEPARATOR, -1)).otherwise(F.split(value, ",", -1))
    fields = lines.where(F.trim(value) != "").select(*others, value.alias("raw"), split.alias("fields"))

    def field(position: int) -> Column:
        text = F.get("fields", F.lit(position))
        inner = F.replace(
            F.expr("substring({0}, 2, length({0}) - 2)".format(f"fields[{position}]")), F.lit('""'), F.lit('"')
        )
        return F.when(text.startswith('"'), inner).otherwise(text)

    names = [column.name for column in view.readings]
    positions = [header.entity, header.day, *header.measures]
    texts = fields.select(
        *others,
        "raw",
        F.size("fields").alias("fields"),
        *(field(p).alias(n) for n, p in zip(names, positions, strict=True)),
    )
    checked = texts.withColumn(REASON, _reason(header, view))
    good = F.col(REASON).isNull()
    typed = [
        F.when(good & (F.col(column.name) != ""), _typed(column.name, column.type)).alias(column.name)
        for column in view.readings
    ]
    return checked.select(*others, "raw", *typed, REASON)


def _typed(name: str, kind: Type) -> Column:
    # By way of double, since 48.0 is a whole number too; try_cast since ANSI mode would throw.
    through = "double" if kind in LARGEST else kind.spark
    return F.expr(f"cast(try_cast({name} as {through}) as {kind.spark})")


def _reason(header: Header, view: FeatureView) -> Column:
    entity, day = F.col(view.entity), F.col(view.day)
    unbalanced = F.col("raw").contains('"') & ~F.col("raw").rlike(QUOTED_LINE)
    no_day = ~day.rlike(DAY) | F.expr(f"try_cast({view.day} as date)").isNull() | day.startswith("0000")
    return F.coalesce(
        F.when(unbalanced, F.lit("quotes are unbalanced")),
        F.when(F.col("fields") != header.fields, F.format_string(f"%d fields instead of {header.fields}", "fields")),
        F.when(entity == "", F.lit(f"{view.entity} is empty")),
        F.when(day == "", F.lit(f"{view.day} is empty")),
        F.when(no_day, F.format_string(f"{view.day} '%s' is not a day as YYYY-MM-DD", day)),
        *(_measure_reason(measure) for measure in view.measures),
    )


def _measure_reason(measure: Measure) -> Column:
    text, number = F.col(measure.name), F.expr(f"try_cast({measure.name} as double)")
    largest = LARGEST.get(measure.type)
    form, kind = (WHOLE_NUMBER, "a whole number") if largest else (NUMBER, "a number")
    too_large = F.abs(number) > largest if largest else F.abs(number) == float("inf")
    reason = F.when(~text.rlike(form), F.format_string(f"{measure.name} '%s' is not {kind}", text))
    reason = reason.when(too_large, F.format_string(f"{measure.name} '%s' is too large", text))
    if measure.minimum is not None:
        below = F.format_string(f"{measure.name} '%s' is less than {measure.minimum}", text)
        reason = reason.when(number < measure.minimum, below)
    return F.when(text != "", reason)
