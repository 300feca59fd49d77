"""Feature attribution through captum: how much each input, or each entry of a site, contributes to a metric."""
