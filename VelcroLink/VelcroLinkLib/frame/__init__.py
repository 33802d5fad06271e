"""What the tabs share: the link session, tabs' parts, state line, settings."""

__all__ = [
    "link_outcome",
    "link_session",
    "settings_section",
    "state_line",
    "tab_question",
    "tab_widgets",
]
