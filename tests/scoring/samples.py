"""Conversations for tests, with markers that must never appear outside of requests."""

from backfill_tasks.scoring.contract import Conversation, Line, Workspace

#: Stand in a message's body, a name and an address.
MARKERS = ("MARKERBODY7f3a", "Marker Nameson", "marker.address@example.org")


def conversation(*texts: str, workspace: Workspace | None = None, **lead: str) -> Conversation:
    """Return a conversation in which the seller writes first, then the lead writes these texts."""
    lines = (
        Line(inbound=False, text="Hi, may I show you our service?"),
        *(Line(inbound=True, text=each) for each in texts),
    )
    return Conversation(
        job="job-1",
        workspace=workspace
        or Workspace(
            "client-1",
            company_name="Northwind Payroll",
            ideal_customer_profile="Dental clinics and medical practices with 10 to 200 employees",
            service_description="Payroll for clinics",
            qualification_questions=("How many employees are there?",),
        ),
        lines=lines,
        transcript="\n".join(f"{'Lead' if each.inbound else 'Us'}: {each.text}" for each in lines)[-24_000:],
        **{"company_name": "Contoso Dental", "industry": "dentistry", "employee_headcount": "40", **lead},
    )


def marked() -> Conversation:
    """Return a conversation that is full of markers."""
    body, name, address = MARKERS
    return conversation(f"{body} from {name} <{address}>", company_name=name, industry=body)
